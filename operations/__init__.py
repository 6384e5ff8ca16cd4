"""What whoever runs the studio needs: logs, checks, figures, cleaning up, services."""

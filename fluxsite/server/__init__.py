"""The web server: gunicorn with a worker class that slow clients cannot fill. ``manage.py up`` starts it."""

#!/bin/sh
# Bring the studio up to this version, then run the command of manage.py.
set -eu
python manage.py prepare --verbosity 0
exec python manage.py "$@"

#!/bin/sh
# Bring the database and the static files up to this version, then run the command of manage.py.
set -eu
python manage.py migrate --verbosity 0
python manage.py collectstatic --noinput --verbosity 0
exec python manage.py "$@"

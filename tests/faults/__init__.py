"""Faults on demand, in real processes with the real demo model; the product knows nothing of this.

With ``DJANGO_SETTINGS_MODULE=tests.faults.settings`` a job's prompt names its fault, as in ``a red circle
fault:hang``. It comes after the second step of each picture; ``tests.faults.engine`` has the names. More are
asked for by a file of their name in ``var/faults/``: ``slow-load``, ``kill-while-loading``,
``freeze-while-drawing`` (at that step, too) and ``freeze-before-storing``.

django-q2's processes are called what they are, so that a test can tell pusher and monitor apart. With
FAULTS_PRELOAD=yes a cluster imports torch before it forks: a worker that is killed is back after a blink
instead of five seconds, and the tests are as much shorter.
"""

"""Every setting of fluxsite. All come from the environment, prefix ``FLUXSITE_``; all have a default.

Without any environment: SQLite, the demo model on the CPU, and pages for this machine only.
"""

import socket
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import django_stubs_ext
import environ

from files import address, private
from fluxsite import __version__, secret_key
from gpu.engines import ENGINES, EngineConfig

django_stubs_ext.monkeypatch()  # classes such as ModelAdmin[Job] may be written at run time
env = environ.Env()
BASE_DIR = Path(__file__).resolve().parent.parent

# What ``operations`` compares with the release that migrated the database.
FLUXSITE_RELEASE = __version__

# Where things live ----------------------------------------------------------------------------------
# The directory of everything that is not code: database, secret key and logs in var/, pictures and LoRAs in
# media/. Default: the directory of the code.
DATA_DIR = Path(env.str("FLUXSITE_DATA_DIR", default=str(BASE_DIR))).expanduser().absolute()
VAR_DIR = DATA_DIR / "var"
LOG_DIR = VAR_DIR / "log"
MEDIA_ROOT = DATA_DIR / "media"
STATIC_ROOT = VAR_DIR / "static"
# The internal location at which nginx serves media/ for X-Accel-Redirect, such as /media. Then the account's
# group may read media/. If it is empty, Django sends files itself.
FLUXSITE_ACCEL = env.str("FLUXSITE_ACCEL", default="").rstrip("/")
try:
    private.begin([VAR_DIR, LOG_DIR, STATIC_ROOT], MEDIA_ROOT, group_reads_media=bool(FLUXSITE_ACCEL))
except private.CannotWrite as error:
    raise SystemExit(str(error)) from error  # a sentence, in each way to start

# Web ------------------------------------------------------------------------------------------------
# For developers only: error pages show code and settings to everybody.
DEBUG = env.bool("FLUXSITE_DEBUG", default=False)
# Signs sessions and links. All hosts of a studio share it. If it is empty, one is created in var/secret_key.
SECRET_KEY = env.str("FLUXSITE_SECRET_KEY", default="")
if not SECRET_KEY:
    try:
        SECRET_KEY = secret_key.read_or_create(VAR_DIR / "secret_key")
    except OSError as error:  # the disk is full, or the key is another account's
        raise SystemExit(str(private.CannotWrite(VAR_DIR, error.strerror or str(error)))) from error

# The address that people type. If it starts with https://, cookies are sent over TLS only, plain HTTP is
# redirected, and X-Forwarded-Proto and the last entry of X-Forwarded-For are trusted: the proxy must set
# both, and clients must not be able to bypass it.
FLUXSITE_URL = env.str("FLUXSITE_URL", default="http://localhost:8000").rstrip("/")
_public = urlsplit(FLUXSITE_URL)
_https = _public.scheme == "https"
# More host names and addresses at which the studio answers.
ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]", *env.list("FLUXSITE_ALLOWED_HOSTS", default=[])]
if _public.hostname and _public.hostname not in ALLOWED_HOSTS:
    ALLOWED_HOSTS.append(_public.hostname)
CSRF_TRUSTED_ORIGINS = [FLUXSITE_URL] if _https else []
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if _https else None
SECURE_SSL_REDIRECT = _https
# What watches comes from inside, without TLS.
SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$", r"^metrics$"]
SECURE_HSTS_SECONDS = 31_536_000 if _https else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = _https
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = _https
SESSION_COOKIE_AGE = 14 * 24 * 3600
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'self'"],
        "img-src": ["'self'", "blob:", "data:"],
        "object-src": ["'none'"],
        "base-uri": ["'none'"],
        "form-action": ["'self'"],
        "frame-ancestors": ["'none'"],
    }
}
# The largest body of a request that carries no file, in bytes.
DATA_UPLOAD_MAX_MEMORY_SIZE = 1_000_000

INSTALLED_APPS = [
    "fluxsite",
    "operations",
    "generation",
    "loras",
    "accounts",
    "gpu",
    "fluxsite.apps.AdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django_q",
    "rest_framework",
    "drf_standardized_errors",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "knox",
    "csp",
    "axes",
]

MIDDLEWARE = [
    "operations.requests.request_ids",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "fluxsite.streams.limited",
    "fluxsite.null_characters.refuse",
    "fluxsite.bodies.bound",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.auth.middleware.LoginRequiredMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "axes.middleware.AxesMiddleware",
]

ROOT_URLCONF = "fluxsite.urls"
WSGI_APPLICATION = "fluxsite.wsgi.application"
TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "fluxsite.context.studio",
            ],
        },
    }
]

LANGUAGE_CODE = "en"
# The time zone in which a day starts, for quotas and for the days of the gallery.
TIME_ZONE = env.str("FLUXSITE_TIME_ZONE", default="UTC")
USE_I18N = False
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# Files ----------------------------------------------------------------------------------------------
STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
STORAGES: dict[str, dict[str, Any]] = {
    "default": {"BACKEND": "files.local.LocalStorage"},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if DEBUG
        else "fluxsite.static_files.HashedStaticFiles"
    },
}
FILE_UPLOAD_PERMISSIONS = private.GROUP_FILE if FLUXSITE_ACCEL else private.FILE
FILE_UPLOAD_DIRECTORY_PERMISSIONS = private.GROUP_FOLDER if FLUXSITE_ACCEL else private.FOLDER
# The store of files that several hosts share, s3://KEY:SECRET@HOST:PORT/BUCKET?region=R. It needs PostgreSQL.
# If it is empty, files are in media/ on this host.
FLUXSITE_STORAGE_URL = env.str("FLUXSITE_STORAGE_URL", default="")
# The most that a host keeps of copies of shared files, in MB of a million bytes. It keeps less if its disk
# has less free space than FLUXSITE_DISK_FLOOR_MB.
FLUXSITE_CACHE_MB = env.int("FLUXSITE_CACHE_MB", default=50_000)
if FLUXSITE_STORAGE_URL:
    _options = address.options_of(FLUXSITE_STORAGE_URL)
    STORAGES["default"] = {"BACKEND": "files.shared.SharedStorage", "OPTIONS": _options}
    CONTENT_SECURITY_POLICY["DIRECTIVES"]["img-src"].append(address.origin_of(_options))

# Database -------------------------------------------------------------------------------------------
# postgres://USER:PASSWORD@HOST:PORT/NAME. SQLite is for one host only. Default: SQLite in
# var/fluxsite.sqlite3 of the data directory.
_database = env.str("FLUXSITE_DATABASE_URL", default="")
# Our own path is no part of a URL: there #, ? and % have meanings.
_sqlite: dict[str, Any] = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(VAR_DIR / "fluxsite.sqlite3")}
DATABASES = {"default": environ.Env.db_url_config(_database) if _database else _sqlite}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    # FULL keeps a committed job through a power loss, and IMMEDIATE lets writers queue instead of failing
    # (measured with 4 writers: 0 lock errors, against 111,033 when transactions begin deferred).
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;",
    }
else:
    # Who is cut off hears nothing: without these a query would wait for a quarter of an hour.
    DATABASES["default"]["OPTIONS"] = {
        "connect_timeout": 5,
        "tcp_user_timeout": 15_000,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        **DATABASES["default"].get("OPTIONS", {}),
    }
DATABASES["default"]["CONN_MAX_AGE"] = 60
# A request that finds its kept connection dead, because the server was started anew, opens another.
DATABASES["default"]["CONN_HEALTH_CHECKS"] = True

# People ---------------------------------------------------------------------------------------------
AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",
    "accounts.backends.UsernameOrEmailBackend",
]
# Who fails so often at an account from one address waits for so long.
AXES_FAILURE_LIMIT = 10
AXES_COOLOFF_TIME = timedelta(minutes=5)
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False
AXES_RESET_ON_SUCCESS = True
AXES_DISABLE_ACCESS_LOG = True
AXES_VERBOSE = False
AXES_USERNAME_CALLABLE = "accounts.throttle.account_of"
AXES_CLIENT_IP_CALLABLE = "accounts.throttle.address_of"
AXES_HANDLER = "accounts.throttle.Handler"
AXES_LOCKOUT_CALLABLE = "accounts.throttle.locked"
LOGIN_URL = "accounts:login"
LOGIN_REDIRECT_URL = "generation:generate"
LOGOUT_REDIRECT_URL = "accounts:login"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {
        "NAME": "accounts.passwords.LengthValidator",
        "OPTIONS": {"min_length": 12},
    },
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]

# The name of the first administrator, for a machine without a browser. It is used once, while there is no
# user.
FLUXSITE_ADMIN_USER = env.str("FLUXSITE_ADMIN_USER", default="")
# The password of the first administrator. It is used once, together with the name.
FLUXSITE_ADMIN_PASSWORD = env.str("FLUXSITE_ADMIN_PASSWORD", default="")

# API ------------------------------------------------------------------------------------------------
KNOX_TOKEN_MODEL = "accounts.ApiToken"  # noqa: S105 (a model)
REST_KNOX = {"TOKEN_PREFIX": "fx_", "TOKEN_TTL": timedelta(days=365)}
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "accounts.authentication.TokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["accounts.permissions.HasScope"],
    "DEFAULT_PARSER_CLASSES": ["fluxsite.parsers.StrictJSONParser"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PAGINATION_CLASS": "fluxsite.pagination.NewestFirst",
    "DEFAULT_THROTTLE_CLASSES": ["generation.throttles.PerUser"],
    "DEFAULT_SCHEMA_CLASS": "fluxsite.schema.Schema",
    "EXCEPTION_HANDLER": "drf_standardized_errors.handler.exception_handler",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "fluxsite",
    "VERSION": "1",
    "DESCRIPTION": "Draw pictures with FLUX.1-schnell on your own machines.",
    "SCHEMA_PATH_PREFIX": "(/api)?/v1/",
    "COMPONENT_SPLIT_REQUEST": True,
    "ENUM_NAME_OVERRIDES": {
        "JobState": "generation.models.Job.State",
        "LoraState": "loras.models.Lora.State",
        "AdmissionState": "loras.models.Admission.State",
        "WorkerState": "gpu.models.Worker.State",
        "Mode": "gpu.models.Mode",
    },
}
DRF_STANDARDIZED_ERRORS = {
    "EXCEPTION_HANDLER_CLASS": "fluxsite.errors.ApiErrors",
    "EXCEPTION_FORMATTER_CLASS": "fluxsite.errors.FieldErrors",
}

# How long a request may wait for its pictures, in seconds (OpenAI's API, Prefer: wait).
FLUXSITE_WAIT_SECONDS = env.int("FLUXSITE_WAIT_SECONDS", default=120)
# How many requests may wait at a time in a web process, at most half of them of one person. Each holds one of
# the threads.
FLUXSITE_WAITING_REQUESTS = env.int("FLUXSITE_WAITING_REQUESTS", default=16)
# How many requests a user may send to the API in a minute, counted over all web processes. 0: no limit.
FLUXSITE_REQUESTS_A_MINUTE = env.int("FLUXSITE_REQUESTS_A_MINUTE", default=3000)
# Model names that mean this studio's model in OpenAI's API, for clients with fixed names. * matches any text.
# An empty value removes all of them.
FLUXSITE_OPENAI_ALIASES = env.list(
    "FLUXSITE_OPENAI_ALIASES",
    default=["flux-schnell", "gpt-image-*", "chatgpt-image-latest", "dall-e-*"],
)
# How long the address of a picture in an answer of OpenAI's API works, in seconds. It needs no token.
FLUXSITE_OPENAI_URL_SECONDS = env.int("FLUXSITE_OPENAI_URL_SECONDS", default=3600)

# Drawing --------------------------------------------------------------------------------------------
# A directory in diffusers layout, a hub id such as black-forest-labs/FLUX.1-schnell, or store:NAME for a
# model that manage.py models share has put into the file store. Default: the demo model, demo/model.
FLUXSITE_MODEL = env.str("FLUXSITE_MODEL", default=str(BASE_DIR / "demo" / "model"))
SHARED_MODEL = FLUXSITE_MODEL.removeprefix("store:") if FLUXSITE_MODEL.startswith("store:") else ""
if SHARED_MODEL:
    FLUXSITE_MODEL = str(VAR_DIR / "models" / SHARED_MODEL)
# The device of a worker process: a GPU's UUID, or cpu. The program that starts the worker sets it.
FLUXSITE_DEVICE = env.str("FLUXSITE_DEVICE", default="cpu")
# The name of this host on the Workers page. Set it in a container, whose own name changes at every start.
# Default: the name of the machine.
FLUXSITE_HOST = env.str("FLUXSITE_HOST", default=socket.gethostname())
# How many LoRAs a worker keeps in memory between jobs, at most.
FLUXSITE_LORAS_IN_MEMORY = env.int("FLUXSITE_LORAS_IN_MEMORY", default=8)
# How many MiB these LoRAs take together, at most.
FLUXSITE_LORAS_IN_MEMORY_MB = env.int("FLUXSITE_LORAS_IN_MEMORY_MB", default=2048)
# The 4-bit transformer for nunchaku: a file, or a hub id followed by a file name. {precision} is replaced by
# int4 or fp4, {model} by the directory of the model.
FLUXSITE_NUNCHAKU_TRANSFORMER = env.str(
    "FLUXSITE_NUNCHAKU_TRANSFORMER", default=EngineConfig.nunchaku_transformer
).replace("{model}", FLUXSITE_MODEL)
# The 4-bit T5 for nunchaku, in the same form.
FLUXSITE_NUNCHAKU_T5 = env.str("FLUXSITE_NUNCHAKU_T5", default=EngineConfig.nunchaku_t5).replace(
    "{model}", FLUXSITE_MODEL
)
# If a worker sends no heartbeat for this many seconds, another worker may take its job. The value must exceed
# the time in which loading a model holds Python's lock, because the heartbeat thread waits meanwhile.
FLUXSITE_LEASE_SECONDS = env.int("FLUXSITE_LEASE_SECONDS", default=60)
# If the workers of a job have died this many times, the job fails instead of killing the next worker.
FLUXSITE_MAX_ATTEMPTS = env.int("FLUXSITE_MAX_ATTEMPTS", default=3)

# If a step takes this many seconds and ten times as long as usual, it counts as hung, and its worker is
# killed.
FLUXSITE_STUCK_SECONDS = env.float("FLUXSITE_STUCK_SECONDS", default=60)
# If less disk space is free, in MB of a million bytes, workers take no job and uploads are refused.
FLUXSITE_DISK_FLOOR_MB = env.int("FLUXSITE_DISK_FLOOR_MB", default=500)
# The maximum size of an uploaded LoRA file, in MB of a million bytes.
FLUXSITE_LORA_MAX_MB = env.int("FLUXSITE_LORA_MAX_MB", default=1000)
# Whether an administrator must approve a LoRA before it is shared with everyone.
FLUXSITE_LORA_APPROVAL = env.bool("FLUXSITE_LORA_APPROVAL", default=False)

# The job table is the queue; django-q2 runs the workers. One cluster of one process per GPU slot.
_day = 24 * 3600
_cluster: dict[str, Any] = {
    "workers": 1,
    "timeout": _day,
    "retry": _day + 60,
    "recycle": 0,
    # 0 keeps all of its log; any other number makes it read all keys at each task. Housekeeping prunes.
    "save_limit": 0,
}
Q_CLUSTER: dict[str, Any] = {
    **_cluster,
    # Housekeeping. django-q2's scheduler stays off: it runs whatever function a row of its table names, and
    # with "sync" in the row's arguments it does so without asking the broker.
    "name": "fluxsite",
    "broker_class": "generation.broker.HousekeepingBroker",
    "scheduler": False,
    "ALT_CLUSTERS": {
        engine: {
            **_cluster,
            "broker_class": "generation.broker.JobBroker",
            # One wake-up is under way at a time; a limit below the bulk size would block the pusher.
            "queue_limit": 8,
            "scheduler": False,
            # The job table and the ledger say what was drawn; of wake-ups only failures are kept.
            "save_limit": -1,
        }
        for engine in ENGINES
    },
}

# Watching -------------------------------------------------------------------------------------------
# A bearer token that opens /metrics and the details of /readyz. Staff need no token.
FLUXSITE_METRICS_TOKEN = env.str("FLUXSITE_METRICS_TOKEN", default="")
# If a job has waited this many minutes for an engine that takes jobs, /readyz reports it.
FLUXSITE_QUEUE_AGE_MINUTES = env.int("FLUXSITE_QUEUE_AGE_MINUTES", default=30)

# Cleaning up ----------------------------------------------------------------------------------------
# Changes of the cleanup's policy, such as trash=7d,logs=14d/200MB,tokens=off. Rules in the admin override it.
# manage.py cleanup --dry-run shows the policy in force.
FLUXSITE_CLEANUP = env.str("FLUXSITE_CLEANUP", default="")

# Logs -----------------------------------------------------------------------------------------------
# The format of log lines on the terminal or in the journal: json, text, or auto, which is text on a terminal
# and JSON elsewhere. The file var/log/fluxsite.log is always JSON.
FLUXSITE_LOG_FORMAT = env.str("FLUXSITE_LOG_FORMAT", default="auto")
# If the log file exceeds this size, in MB of a million bytes, a new one is started.
FLUXSITE_LOG_MB = env.int("FLUXSITE_LOG_MB", default=20)
# Whether prompts may be written to the log. Tokens are never written.
FLUXSITE_LOG_PROMPTS = env.bool("FLUXSITE_LOG_PROMPTS", default=False)
_formatter = {"()": "operations.logs.formatter", "prompts": FLUXSITE_LOG_PROMPTS}
LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"console": {**_formatter, "form": FLUXSITE_LOG_FORMAT}, "json": _formatter},
    "filters": {"at_will": {"()": "operations.logs.OncePerMinute"}},
    "handlers": {
        "console": {"class": "logging.StreamHandler", "formatter": "console", "filters": ["at_will"]},
        "file": {
            "class": "operations.log_files.LogFile",
            "folder": LOG_DIR,
            "most": FLUXSITE_LOG_MB * 10**6,
            "formatter": "json",
            "filters": ["at_will"],
        },
    },
    # The least severe level that is logged: DEBUG, INFO, WARNING or ERROR.
    "root": {"handlers": ["console", "file"], "level": env.str("FLUXSITE_LOG_LEVEL", default="INFO")},
    "loggers": {
        "django-q": {"level": "WARNING"},
        "axes": {"level": "ERROR"},  # ``accounts.throttle`` says what there is to say
        "django.request": {"level": "ERROR"},
        "gunicorn.error": {"handlers": [], "propagate": True},
    },
}

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

from files import address
from fluxsite import secret_key
from gpu.engines import ENGINES, EngineConfig

django_stubs_ext.monkeypatch()  # classes such as ModelAdmin[Job] may be written at run time
env = environ.Env()
BASE_DIR = Path(__file__).resolve().parent.parent

# Where things live ----------------------------------------------------------------------------------
# FLUXSITE_DATA_DIR moves everything that is not code: database, secret key, logs, pictures, LoRAs.
DATA_DIR = Path(env.str("FLUXSITE_DATA_DIR", default=str(BASE_DIR))).expanduser().absolute()
VAR_DIR = DATA_DIR / "var"
LOG_DIR = VAR_DIR / "log"
MEDIA_ROOT = DATA_DIR / "media"
STATIC_ROOT = VAR_DIR / "static"
for _directory in (LOG_DIR, MEDIA_ROOT, STATIC_ROOT):
    _directory.mkdir(parents=True, exist_ok=True)

# Web ------------------------------------------------------------------------------------------------
# For developers only: pages of errors show code and settings to whoever sees them.
DEBUG = env.bool("FLUXSITE_DEBUG", default=False)
# Signs sessions and links; left out, one is made in var/secret_key. All hosts of a studio share it.
SECRET_KEY = env.str("FLUXSITE_SECRET_KEY", default="") or secret_key.read_or_create(VAR_DIR / "secret_key")

# The address people type. With https:// cookies are sent over TLS only, plain HTTP is redirected, and what
# X-Forwarded-Proto and the end of X-Forwarded-For say is believed: let the proxy set both, and nobody come
# past it.
FLUXSITE_URL = env.str("FLUXSITE_URL", default="http://localhost:8000").rstrip("/")
_public = urlsplit(FLUXSITE_URL)
_https = _public.scheme == "https"
# Other names and addresses that the studio answers to.
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
# When a day begins, for quotas and for the days of the gallery.
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
FILE_UPLOAD_PERMISSIONS = 0o640
# Where files are that several hosts share: s3://KEY:SECRET@HOST:PORT/BUCKET?region=R; needs PostgreSQL. Left
# out: media/ here.
FLUXSITE_STORAGE_URL = env.str("FLUXSITE_STORAGE_URL", default="")
# Each host keeps copies of the shared files that it draws with, in MB of a million bytes; fewer, where
# its disk has less free than FLUXSITE_DISK_FLOOR_MB.
FLUXSITE_CACHE_MB = env.int("FLUXSITE_CACHE_MB", default=50_000)
# Where nginx has media/ for X-Accel-Redirect, such as /media; left out: Django sends files itself.
FLUXSITE_ACCEL = env.str("FLUXSITE_ACCEL", default="").rstrip("/")
if FLUXSITE_STORAGE_URL:
    _options = address.options_of(FLUXSITE_STORAGE_URL)
    STORAGES["default"] = {"BACKEND": "files.shared.SharedStorage", "OPTIONS": _options}
    CONTENT_SECURITY_POLICY["DIRECTIVES"]["img-src"].append(address.origin_of(_options))

# Database -------------------------------------------------------------------------------------------
# postgres://USER:PASSWORD@HOST:PORT/NAME; left out, SQLite in var/, which is for one host.
DATABASES = {
    "default": env.db_url("FLUXSITE_DATABASE_URL", default=f"sqlite:///{VAR_DIR / 'fluxsite.sqlite3'}")
}
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

# The first administrator, for a machine without a browser. Used once, while there is no user.
FLUXSITE_ADMIN_USER = env.str("FLUXSITE_ADMIN_USER", default="")
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
    "DEFAULT_PARSER_CLASSES": ["fluxsite.parsers.NestedJSONParser"],
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

# A request may wait for its pictures so long, in seconds (OpenAI's API, Prefer: wait); and so many may wait
# at a time in a web process, at most half of them of one person: the process has a thread for each.
FLUXSITE_WAIT_SECONDS = env.int("FLUXSITE_WAIT_SECONDS", default=120)
FLUXSITE_WAITING_REQUESTS = env.int("FLUXSITE_WAITING_REQUESTS", default=16)
# Requests to the API that a user may send in a minute, to all web processes together. 0: any number.
FLUXSITE_REQUESTS_A_MINUTE = env.int("FLUXSITE_REQUESTS_A_MINUTE", default=3000)
# Names of models that clients of OpenAI's API insist on: each means this studio's model; * is any text.
# Empty: none.
FLUXSITE_OPENAI_ALIASES = env.list(
    "FLUXSITE_OPENAI_ALIASES",
    default=["flux-schnell", "gpt-image-*", "chatgpt-image-latest", "dall-e-*"],
)
# How long an address in an answer of OpenAI's API leads to its picture, for whoever has it.
FLUXSITE_OPENAI_URL_SECONDS = env.int("FLUXSITE_OPENAI_URL_SECONDS", default=3600)

# Drawing --------------------------------------------------------------------------------------------
# A directory in diffusers layout; a hub id such as black-forest-labs/FLUX.1-schnell; or store:NAME for what
# manage.py models has put where all hosts have their files.
FLUXSITE_MODEL = env.str("FLUXSITE_MODEL", default=str(BASE_DIR / "demo" / "model"))
SHARED_MODEL = FLUXSITE_MODEL.removeprefix("store:") if FLUXSITE_MODEL.startswith("store:") else ""
if SHARED_MODEL:
    FLUXSITE_MODEL = str(VAR_DIR / "models" / SHARED_MODEL)
# What a worker process is bound to: a GPU's UUID, or cpu. Set by whoever starts it.
FLUXSITE_DEVICE = env.str("FLUXSITE_DEVICE", default="cpu")
# What this host is called on the Workers page; a container's own name is another each time.
FLUXSITE_HOST = env.str("FLUXSITE_HOST", default=socket.gethostname())
# LoRAs that a worker keeps ready between jobs: at most so many, of at most so many MiB together.
FLUXSITE_LORAS_IN_MEMORY = env.int("FLUXSITE_LORAS_IN_MEMORY", default=8)
FLUXSITE_LORAS_IN_MEMORY_MB = env.int("FLUXSITE_LORAS_IN_MEMORY_MB", default=2048)
# nunchaku's 4-bit weights: a file, or a hub id followed by a file name. {precision} becomes int4 or fp4,
# {model} the directory of the model.
FLUXSITE_NUNCHAKU_TRANSFORMER = env.str(
    "FLUXSITE_NUNCHAKU_TRANSFORMER", default=EngineConfig.nunchaku_transformer
).replace("{model}", FLUXSITE_MODEL)
# Its 4-bit T5, in the same way.
FLUXSITE_NUNCHAKU_T5 = env.str("FLUXSITE_NUNCHAKU_T5", default=EngineConfig.nunchaku_t5).replace(
    "{model}", FLUXSITE_MODEL
)
# A worker that is silent for this long has lost its job: another worker may take it. It outlasts the
# seconds in which loading a model keeps Python's lock from the heartbeat thread.
FLUXSITE_LEASE_SECONDS = env.int("FLUXSITE_LEASE_SECONDS", default=60)
# A job whose workers died this many times fails instead of killing the next one.
FLUXSITE_MAX_ATTEMPTS = env.int("FLUXSITE_MAX_ATTEMPTS", default=3)

# A step that takes so long, and ten times as long as steps usually do, hangs: its worker is killed.
FLUXSITE_STUCK_SECONDS = env.float("FLUXSITE_STUCK_SECONDS", default=60)
# Below so much free disk space, in MB of a million bytes, workers take no job: a picture may not fit.
FLUXSITE_DISK_FLOOR_MB = env.int("FLUXSITE_DISK_FLOOR_MB", default=500)
# The largest LoRA file that may be uploaded, in MB of a million bytes.
FLUXSITE_LORA_MAX_MB = env.int("FLUXSITE_LORA_MAX_MB", default=1000)
# Whether an administrator must approve before everyone may use somebody's LoRA.
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
# Who sends it as a bearer token may read /metrics and the details of /readyz; staff may anyway.
FLUXSITE_METRICS_TOKEN = env.str("FLUXSITE_METRICS_TOKEN", default="")
# When a job has waited so long for an engine that takes jobs, /readyz says so.
FLUXSITE_QUEUE_AGE_MINUTES = env.int("FLUXSITE_QUEUE_AGE_MINUTES", default=30)

# Cleaning up ----------------------------------------------------------------------------------------
# What is deleted when, where that is to differ from the defaults, such as trash=7d,logs=14d/200MB,tokens=off.
# manage.py cleanup --dry-run shows what holds; rules in the admin come before this.
FLUXSITE_CLEANUP = env.str("FLUXSITE_CLEANUP", default="")

# Logs -----------------------------------------------------------------------------------------------
# How lines reach the terminal or the journal: json, text, or auto, which is text on a terminal only. The
# file, var/log/fluxsite.log, is always JSON.
FLUXSITE_LOG_FORMAT = env.str("FLUXSITE_LOG_FORMAT", default="auto")
# Where the file has more, in MB of a million bytes, whoever wrote to it begins a new one.
FLUXSITE_LOG_MB = env.int("FLUXSITE_LOG_MB", default=20)
# Whether prompts may stand in the log. Tokens never do.
FLUXSITE_LOG_PROMPTS = env.bool("FLUXSITE_LOG_PROMPTS", default=False)
_formatter = {"()": "operations.logs.formatter", "prompts": FLUXSITE_LOG_PROMPTS}
LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"console": {**_formatter, "form": FLUXSITE_LOG_FORMAT}, "json": _formatter},
    "handlers": {
        "console": {"class": "logging.StreamHandler", "formatter": "console"},
        "file": {
            "class": "operations.log_files.LogFile",
            "folder": LOG_DIR,
            "most": FLUXSITE_LOG_MB * 10**6,
            "formatter": "json",
        },
    },
    # DEBUG, INFO, WARNING or ERROR.
    "root": {"handlers": ["console", "file"], "level": env.str("FLUXSITE_LOG_LEVEL", default="INFO")},
    "loggers": {
        "django-q": {"level": "WARNING"},
        "axes": {"level": "ERROR"},  # ``accounts.throttle`` says what there is to say
        "django.request": {"level": "ERROR"},
        "gunicorn.error": {"handlers": [], "propagate": True},
    },
}

"""FLUXSITE_STORAGE_URL: what it says."""

from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured

# Of a link to one file. A page is read by then; who keeps the link has nothing.
LINK_SECONDS = 300


def options_of(url: str) -> dict[str, Any]:
    """Of ``s3://KEY:SECRET@HOST:PORT/BUCKET?region=R&tls=no``; without a host it is Amazon's own.

    Key and secret may be left out where boto3 finds them itself. Raises ImproperlyConfigured.
    """
    parts = urlsplit(url)
    bucket = parts.path.strip("/")
    if parts.scheme != "s3" or not bucket or "/" in bucket:
        raise ImproperlyConfigured(
            "FLUXSITE_STORAGE_URL must look like s3://KEY:SECRET@HOST:PORT/BUCKET?region=REGION"
        )
    asked = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    host = parts.netloc.rpartition("@")[2]
    scheme = "http" if asked.get("tls") == "no" else "https"
    return {
        "access_key": unquote(parts.username) if parts.username else None,
        "secret_key": unquote(parts.password) if parts.password else None,
        "bucket_name": bucket,
        "endpoint_url": f"{scheme}://{host}" if host else None,
        "region_name": asked.get("region"),
        # Stores other than Amazon's seldom have a host name for each bucket.
        "path_style": bool(host),
        "default_acl": None,
        # Names are ours and new each time; asking whether one is taken would cost a request.
        "file_overwrite": True,
        "querystring_expire": LINK_SECONDS,
    }


def origin_of(options: dict[str, Any]) -> str:
    """Where browsers are sent for files: for the policy that says which pictures a page may show."""
    if options["endpoint_url"]:
        return str(options["endpoint_url"])
    region = f".{options['region_name']}" if options["region_name"] else ""
    return f"https://{options['bucket_name']}.s3{region}.amazonaws.com"

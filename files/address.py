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
        # Stores other than Amazon's seldom have a host name for each bucket. Amazon's own: "auto" would leave
        # the region out of links, and a new bucket is known by its region only.
        "addressing_style": "path" if host else "virtual",
        "default_acl": None,
        # Names are ours and new each time; asking whether one is taken would cost a request.
        "file_overwrite": True,
        "querystring_expire": LINK_SECONDS,
        # What is opened is read at once: a picture into memory, a large LoRA into a file of the system.
        "max_memory_size": 20 * 10**6,
    }


def origin_of(options: dict[str, Any]) -> str:
    """Where browsers are sent for files: for the policy that says which pictures a page may show.

    It is that of a link, made without the store being asked: only boto3 knows how Amazon names its hosts.
    """
    # They take half a second, which a studio without a store need not pay.
    import boto3
    from botocore import UNSIGNED
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    config = Config(signature_version=UNSIGNED, s3={"addressing_style": options["addressing_style"]})
    facts = {"region_name": options["region_name"], "endpoint_url": options["endpoint_url"]}
    asked = {"Bucket": options["bucket_name"], "Key": "any"}
    try:
        link = boto3.client("s3", config=config, **facts).generate_presigned_url("get_object", Params=asked)
    except (BotoCoreError, ValueError) as error:
        raise ImproperlyConfigured(f"FLUXSITE_STORAGE_URL names no store that can be: {error}") from error
    parts = urlsplit(link)
    return f"{parts.scheme}://{parts.netloc}"

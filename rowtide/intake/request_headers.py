"""Checks a request's headers before its body is read. Nothing in them is trusted yet."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from rowtide.intake.messages import MessageRefused

ONCE = ("content-type", "webhook-id", "webhook-timestamp", "webhook-signature")  # two of one: which was signed?
OF_A_BROWSER = ("origin", "sec-fetch-site")
JSON = re.compile(r"application/(json|[\w.+-]+\+json)", re.ASCII | re.IGNORECASE)
UTF_8 = re.compile(r'charset="?utf-?8"?', re.ASCII | re.IGNORECASE)

SIGNED = ("webhook-id", "webhook-timestamp", "webhook-signature")
MESSAGE_ID = re.compile(r"[\x21-\x7e]{1,256}")
STAMP = re.compile(r"[0-9]{1,11}")
SIGNATURE = re.compile(r"v1,[A-Za-z0-9+/]{43}=")  # HMAC-SHA256; other signatures may stand beside it
MOST_SIGNATURES = 16

Headers = Sequence[tuple[str, str]]


def check_sender(headers: Headers, *, is_signed: bool) -> None:
    """Raise MessageRefused for a browser's page, a header that stands twice, or a missing signature."""
    found = dict(headers)
    page = next((name for name in OF_A_BROWSER if name in found), None)
    if page and not is_signed:
        raise MessageRefused("from_a_page", f"the header {page} is a browser's")
    counted = Counter(name for name, _ in headers)
    if twice := next((name for name in ONCE if counted[name] > 1), None):
        raise MessageRefused("bad_head", f"the header {twice} stands {counted[twice]} times")
    if is_signed:
        check_signature_headers(found)
    elif "webhook-id" in found:
        check_message_id(found["webhook-id"])


def check_body_headers(headers: Headers, most_bytes: int, *, is_signed: bool) -> None:
    """Raise MessageRefused for a body without a length, too long, or not declared as JSON."""
    found = dict(headers)
    length = found.get("content-length", "")
    if "transfer-encoding" in found or not length.isascii() or not length.isdigit():
        raise MessageRefused("no_length", "send Content-Length, and not Transfer-Encoding")
    if int(length) > most_bytes:
        raise MessageRefused("too_large", f"over {most_bytes:,} bytes")
    if found.get("content-encoding", "identity").lower() != "identity":
        raise MessageRefused("not_json_type", "content-encoding: send the body as it is")
    kind = found.get("content-type")
    if kind is None and is_signed:  # no page in a browser can sign, though it can omit the type
        return
    name, _, parameters = (kind or "").partition(";")
    charset = parameters.strip()
    if not JSON.fullmatch(name.strip()) or ("charset" in charset.lower() and not UTF_8.search(charset)):
        raise MessageRefused("not_json_type", "send content-type: application/json, in UTF-8")


def check_signature_headers(headers: Mapping[str, str]) -> tuple[str, datetime, list[bytes]]:
    """Return the id, the time and the signatures in a message's headers. Raises MessageRefused."""
    if missing := [name for name in SIGNED if not headers.get(name)]:
        raise MessageRefused("not_signed", f"no {', '.join(missing)}")
    message_id, stamp, signatures = (headers[name] for name in SIGNED)
    if not STAMP.fullmatch(stamp):
        raise MessageRefused("bad_signature", "webhook-timestamp is not a number of seconds")
    given = [each.encode() for each in signatures.split(" ") if SIGNATURE.fullmatch(each)]
    if not given or len(given) > MOST_SIGNATURES:
        words = f"webhook-signature holds {len(given)} of the form v1,BASE64; there may be 1 to {MOST_SIGNATURES}"
        raise MessageRefused("bad_signature", words)
    return check_message_id(message_id), datetime.fromtimestamp(int(stamp), UTC), given


def check_message_id(message_id: str) -> str:
    """Return the id if it can be stored. Raises MessageRefused."""
    if not MESSAGE_ID.fullmatch(message_id):
        raise MessageRefused("no_message_id", "webhook-id: 1 to 256 visible ASCII characters")
    return message_id

"""How Prefect's server is run: closed to other origins, with a password, and fit for many small flow runs."""

import secrets
from pathlib import Path

import httpx

from cli.prefect_server import LOGIN_FILE

LOOK_SECONDS = 2.0
POOL = "rowtide"

# As it comes it records 50 task runs a second; so, three times as many. It forgets what nobody reads. Concurrency slots
# are leased on disk: in memory, a hard stop of the server leaves them taken for ever (`resume-runs` has one). A slot
# whose flow run was lost before its process began is free again before the watch has its next turn.
SETTINGS = {
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "50",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_BATCH_SIZE": "500",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_READ_BATCH_SIZE": "50",
    "PREFECT_SERVER_SERVICES_TRIGGERS_READ_BATCH_SIZE": "50",
    "PREFECT_SERVER_EVENTS_RETENTION_PERIOD": "P2D",
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    "PREFECT_SERVER_CONCURRENCY_INITIAL_DEPLOYMENT_LEASE_DURATION": "120",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
}


def security(home: Path, port: int) -> dict[str, str]:
    """What closes the server: only its own pages may ask, with its password, and no page may ask in their name.

    Prefect as it comes answers any page of any origin that an operator's browser has open, and runs what it deploys.
    """
    own = f"http://127.0.0.1:{port},http://localhost:{port}"
    login = login_of(home)
    return {
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": own,
        "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
        "PREFECT_SERVER_API_AUTH_STRING": login,
        "PREFECT_API_AUTH_STRING": login,  # without it the server's own services are refused by it
    }


def login_of(home: Path) -> str:
    """USER:PASSWORD of this home's server, made at its first start; only its owner can read the file."""
    file = home / LOGIN_FILE
    if not file.exists():
        file.touch(mode=0o600)
        file.write_text(f"rowtide:{secrets.token_urlsafe(24)}")
    return file.read_text().strip()


def is_ready(url: str) -> bool:
    """Whether it answers, its database included. `url` ends in /api."""
    try:
        return httpx.get(f"{url}/ready", timeout=LOOK_SECONDS, trust_env=False).is_success
    except httpx.HTTPError:
        return False


def has_worker(url: str, pool: str, login: str) -> bool:
    """Whether a worker of the pool has said lately that it is there. `url` ends in /api."""
    name, _, word = login.partition(":")
    try:
        asked = httpx.get(f"{url}/work_pools/{pool}", auth=(name, word), timeout=LOOK_SECONDS, trust_env=False)
        return asked.is_success and asked.json()["status"] == "READY"
    except httpx.HTTPError:
        return False


def receives(url: str) -> bool:
    """Whether the receiver takes messages."""
    try:
        return httpx.get(f"{url}/ready", timeout=LOOK_SECONDS, trust_env=False).is_success
    except httpx.HTTPError:
        return False

"""pretix's own settings, told where the database is by a URL instead of five variables, and with no mail sent."""

import os
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

_database = urlsplit(os.environ["DATABASE_URL"])
_data = Path(tempfile.gettempdir()) / "mainstay-pretix"
_data.mkdir(exist_ok=True)
os.environ |= {
    "PRETIX_DATABASE_BACKEND": "postgresql",
    "PRETIX_DATABASE_HOST": _database.hostname or "",
    "PRETIX_DATABASE_PORT": str(_database.port),
    "PRETIX_DATABASE_NAME": _database.path.lstrip("/"),
    "PRETIX_DATABASE_USER": _database.username or "",
    "PRETIX_DATABASE_PASSWORD": _database.password or "",
    "PRETIX_PRETIX_URL": "http://127.0.0.1",
    "PRETIX_PRETIX_DATADIR": str(_data),
    "PRETIX_DJANGO_SECRET": "only for the laboratory",
}

from pretix.settings import *  # noqa: E402, F403

EMAIL_BACKEND = EMAIL_CUSTOM_SMTP_BACKEND = "django.core.mail.backends.dummy.EmailBackend"

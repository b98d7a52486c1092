"""`python -m workers.web`: the API under uvicorn, where the settings say."""

import uvicorn

from workers import callboard
from workers.runner import log_format
from workers.web.app import create_app
from workers.web.server import make_config


def main() -> None:
    """Serve until told to stop, and keep ledger and bus in step meanwhile, as every process of the system does."""
    settings = callboard.settings
    log_format.install(settings.log_format)
    upkeep = callboard.upkeep("web")
    upkeep.start()
    uvicorn.Server(make_config(create_app(), host=settings.api_host, port=settings.api_port)).run()
    upkeep.stop()


if __name__ == "__main__":
    main()

"""Every mail as a picture, to be looked at: wide and as on a phone, light and dark.

    python -m tests.workers.notifications.pictures DIRECTORY [NAME…]

Needs `chromium` on the PATH. No test: whether it is good to read is for people to say.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests import databases
from tests.workers.notifications.mails import MAILS, rendered

WIDTHS = {"wide": 760, "phone": 390}


def take(directory: Path, names: list[str]) -> None:
    """Put pictures and pages of these mails into a directory."""
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        template = databases.sqlite_template(Path(scratch))
        for name in names:
            shutil.copy(template, Path(scratch) / "test.db")
            with databases.bound(f"sqlite:///{scratch}/test.db"):
                mail = rendered(name)[0]
            page = directory / f"{name.replace(' ', '-').replace(',', '')}.html"
            page.write_text(mail.html)
            page.with_suffix(".txt").write_text(mail.text)
            for look, width in WIDTHS.items():
                for shade in ("light", "dark"):
                    photograph(page, page.with_name(f"{page.stem}-{look}-{shade}.png"), width, shade, Path(scratch))


def photograph(page: Path, picture: Path, width: int, shade: str, scratch: Path) -> None:
    """One picture. A frame as wide as the phone, because Chromium's own window cannot be so narrow."""
    frame = scratch / "frame.html"
    frame.write_text(
        f'<meta charset="utf-8"><meta name="color-scheme" content="{shade}"><style>:root{{color-scheme:{shade}}}'
        f"body{{margin:0;background:#888}}</style>"
        f'<iframe src="{page.resolve().as_uri()}" style="border:0;width:{width}px;height:1200px"></iframe>'
    )
    shade_flag = ["--force-dark-mode", "--blink-settings=preferredColorScheme=0"] if shade == "dark" else []
    subprocess.run(
        [
            "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
            "--allow-file-access-from-files", f"--user-data-dir={tempfile.mkdtemp(dir=scratch)}", *shade_flag,
            f"--window-size={max(width, 500)},1200", f"--screenshot={picture}", frame.as_uri(),
        ],
        check=True, capture_output=True, timeout=120, env={**os.environ, "HOME": str(scratch)},
    )  # fmt: skip


if __name__ == "__main__":
    if len(sys.argv) < 2 or not set(sys.argv[2:]) <= set(MAILS):
        sys.exit(f"expected DIRECTORY [NAME…]; names: {'; '.join(MAILS)}")
    take(Path(sys.argv[1]), sys.argv[2:] or list(MAILS))

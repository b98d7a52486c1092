"""Crontab entries are found in crontabs, and in scripts that write them; a look-alike elsewhere is none."""

import pytest

from tests.periodic.elsewhere.conftest import Planted

CRONTAB = """
    SHELL=/bin/sh
    # 0 1 * * * an-old-one
    0 3 * * * /srv/backup.sh

    */5 8-18 * * mon-fri root /srv/poll --fast
    @daily /srv/digest
    @every 90s /srv/tick
    {{ minute }} {{ hour }} * * * /srv/templated
    """
ENTRIES = [
    (3, "0 3 * * * /srv/backup.sh"),
    (5, "*/5 8-18 * * mon-fri root /srv/poll --fast"),
    (6, "@daily /srv/digest"),
    (7, "@every 90s /srv/tick"),
    (8, "* * * * * /srv/templated"),
]


@pytest.mark.parametrize(
    "file", ["crontab", "etc/crontab", "crontab.txt", "app.crontab", "app.cron", "deploy/crontab.j2", "etc/cron.d/app",
             "var/spool/cron/crontabs/root", "my-crontab"],
)  # fmt: skip
def test_each_entry_of_a_crontab_is_found(hits: Planted, file: str) -> None:
    assert hits({file: CRONTAB}) == [(file, line, name) for line, name in ENTRIES]


def test_a_script_that_run_parts_runs_is_an_entry(hits: Planted) -> None:
    assert hits({"etc/cron.daily/rotate": "#!/bin/sh\ntrue\n"}) == [("etc/cron.daily/rotate", 1, "cron.daily/rotate")]


@pytest.mark.parametrize(
    ("file", "content", "line", "entry"),
    [
        ("Dockerfile", 'FROM debian\nRUN echo "0 3 * * * root /srv/backup" >> /etc/crontab\n', 2,
         "0 3 * * * root /srv/backup"),
        ("b.dockerfile", 'RUN echo "0 3 * * * root echo \\"x\\"" > /etc/cron.d/job\n', 1,
         '0 3 * * * root echo \\"x\\"'),
        ("install.sh", '(crontab -l; echo "*/5 * * * * /srv/poll") | crontab -\n', 1, "*/5 * * * * /srv/poll"),
        ("setup", "#!/usr/bin/env bash\ncat > /etc/cron.d/app <<EOF\n0 3 * * * root /srv/backup > /dev/null\nEOF\n", 3,
         "0 3 * * * root /srv/backup > /dev/null"),
        ("deploy.sh", "echo 0 3 \\* \\* \\* /srv/backup | crontab -\n", 1, "0 3 * * * /srv/backup"),
        ("entry.sh", 'LINE="@hourly /srv/poll"\necho "$LINE" | crontab -\n', 1, "@hourly /srv/poll"),
        ("lines.sh", 'echo "# jobs\n@hourly /srv/poll" > /etc/cron.d/job\n', 2, "@hourly /srv/poll"),
        ("print.sh", "printf '@daily /srv/poll\\n' | crontab -\n", 1, "@daily /srv/poll"),
        ("Makefile", "cron:\n\techo '0 3 * * * /srv/backup' | crontab -\n", 2, "0 3 * * * /srv/backup"),
    ],
)  # fmt: skip
def test_an_entry_that_a_script_writes_is_found_without_the_rest_of_its_line(
    hits: Planted, file: str, content: str, line: int, entry: str
) -> None:
    assert hits({file: content}) == [(file, line, entry)]


def test_what_only_looks_like_an_entry_is_none(hits: Planted) -> None:
    assert (
        hits(
            {
                "notes.txt": "0 3 * * * /srv/backup.sh\n",
                "crontab.md": "0 3 * * * /srv/backup.sh\n",
                "crontab.py": 'DAILY = "0 3 * * * run"\n',
                "plain.sh": 'echo "0 3 * * * no word of what runs it"\n',
                "remove.sh": "crontab -r\n# 0 3 * * * gone\n",
                "cron/matrix.csv": "1 2 3 4 5 6\n",
                "crontab": "MAILTO=ops\nPATH=/usr/bin\n",
            }
        )
        == []
    )

"""The default timetable: only declarations, one each, with its why. People may pause and edit them while it runs.

A job that wants a setting, such as a server's address, is declared disabled. Two lines for the same job want a word:
`also_scheduled="why"`.
"""

from periodic.declaration import Declaration, cron, crontab, date, interval

__all__ = ["TIMETABLE", "Declaration", "cron", "crontab", "date", "interval"]

TIMETABLE = (
    # Before the working day, a week ahead: who plans the day sees what falls due.
    Declaration("create-ppm-jobs", "jobs.create_ppm_job", crontab("0 2 * * *"), max_retries=3, time_limit_s=600),
    # Reminders, closings and escalations are due to the minute; no retry, as the next minute looks again.
    Declaration("every-minute-sweep", "jobs.task_every_min", crontab("* * * * *"), max_retries=0, time_limit_s=50),
    # A sample a minute is fine enough to see a trend and to alert within one, and costs a few milliseconds.
    Declaration("system-health-check", "health.check_system", crontab("* * * * *"), max_retries=1, time_limit_s=30),
    # Mondays before work, so that a week begins with what the last full period was like; without figures it is skipped.
    Declaration("sla-report", "email.send_sla_report", crontab("0 7 * * mon"), max_retries=3, time_limit_s=300),
    # An alert of a provider looks back fifteen minutes: two probes may fail to be made, and it stands.
    Declaration(
        "probe-providers", "health.probe_all_providers", crontab("*/5 * * * *"), max_retries=1, time_limit_s=120
    ),
    # What has had its time goes while little of it is there: an hour's worth each time.
    Declaration("cleanup-expired-data", "maintenance.cleanup_old_data", crontab("0 * * * *")),
    Declaration("cleanup-expired-sessions", "maintenance.cleanup_expired_sessions", crontab("0 */6 * * *")),
    # At night, when nobody looks: logs first, then files.
    Declaration("cleanup-old-logs", "maintenance.cleanup_old_logs", crontab("0 0 * * *")),
    Declaration("cleanup-expired-pdfs", "maintenance.cleanup_expired_pdfs", crontab("30 0 * * *")),
    # Twice within the hour that values live, so that none is ever missing.
    Declaration("warm-cache", "maintenance.warm_cache", crontab("*/30 * * * *"), max_retries=1, time_limit_s=120),
    # Five minutes after the hour nearly all outcomes of it are written; late ones are found by the next run.
    Declaration("aggregate-statistics", "analytics.aggregate_task_statistics", crontab("5 * * * *"), max_retries=2),
    # When people begin their day, about the one before.
    Declaration("daily-reports", "reports.send_daily_reports", crontab("0 9 * * *"), max_retries=2, time_limit_s=600),
)

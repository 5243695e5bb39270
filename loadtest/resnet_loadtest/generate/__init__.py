"""Makes the load: photos, schedules, users, worker processes; the only folder that knows Locust and gevent."""

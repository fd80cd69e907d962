select user_id, duration, distance, "timestamp"
from running
where "timestamp" >= '2024-01-20 00:00:00' and "timestamp" < '2024-01-21 00:00:00'
order by "timestamp"
limit 1000

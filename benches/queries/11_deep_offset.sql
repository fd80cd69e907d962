select user_id, duration, distance, "timestamp"
from running
order by "timestamp"
limit 100 offset 15000000

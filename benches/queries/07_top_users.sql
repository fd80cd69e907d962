select user_id, count(*) as runs, sum(distance) as metres
from running
group by user_id
order by metres desc, user_id
limit 10

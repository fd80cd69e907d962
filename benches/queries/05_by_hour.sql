select date_trunc('hour', "timestamp") as hour, count(*) as runs, sum(distance) as metres
from running
group by 1
order by 1

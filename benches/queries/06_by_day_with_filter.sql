select date_trunc('day', "timestamp") as day, count(*) as runs, avg(duration) as seconds
from running
where distance >= 10000 and "timestamp" >= '2024-01-10 00:00:00' and "timestamp" < '2024-02-20 00:00:00'
group by 1
order by 1

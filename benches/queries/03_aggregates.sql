select count(*), sum(distance), avg(duration), min(duration), max(distance) from running where distance > 5000

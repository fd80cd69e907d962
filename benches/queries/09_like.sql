select count(*), sum(distance) from running where user_id like '%7f3a%'

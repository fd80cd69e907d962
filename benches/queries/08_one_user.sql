select count(*), sum(distance), max("timestamp") from running where user_id = '3c87dc0e-ccde-4f36-9f3e-1a01dbb682dc'

select count(*) from running

select min("timestamp"), max("timestamp"), min(distance), max(distance) from running

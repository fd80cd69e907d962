-- ARGV: user. Gives whether there was a session.
return end_session(ARGV[1], now())

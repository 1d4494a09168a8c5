-- Race prevented: releasing a lease that another owner has taken in the meantime.
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 'ok'

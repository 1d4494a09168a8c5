-- Race prevented: none; the worker has stopped.
note('cancelled:unwanted')
return 'ok'

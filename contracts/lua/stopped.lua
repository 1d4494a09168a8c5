-- Prevents no race: the worker has already stopped.
note('cancelled:unwanted')
return 'ok'

"""Many instances: which samples are to be made, in threads or over Ray, each kept as it is done."""

# Counts guest instructions (under -icount). int80 and stock before the module is
# there: what a program pays without us. Again with it: what programs that do not
# use it pay for its being there.
/lib/sysenter/calls | under counted
load_module
/lib/sysenter/calls | under loaded_counted

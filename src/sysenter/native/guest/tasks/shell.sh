# The task of `sysenter shell`.
export PS1='guest# '
cat <<END

A real kernel, and the module for it at hand:
    insmod /sysenter.ko ${options-}
                                                     load; rmmod sysenter unloads
    /lib/sysenter/calls                              cost of single calls on each path
    LD_PRELOAD=/lib/sysenter/libsysenter.so /gnu/bin/dd if=/dev/zero of=/dev/null bs=1 count=100000
    cat /sys/module/sysenter/parameters/calls        fast calls made
\`exit\` switches the machine off; Ctrl-A X ends it at once.

END
setsid cttyhack sh -i

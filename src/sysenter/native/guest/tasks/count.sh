# Counts guest instructions (under -icount). int80 and stock before the module is
# there: what a program pays without us. Again with it: what programs that do not
# use it pay for its being there. And with scope=all, where the same unmarked calls are fast.
/lib/sysenter/calls | under counted
choose_scopes
case " $scopes " in *" marked "*)
	scope=marked; load_module
	/lib/sysenter/calls | under loaded_counted
	rmmod sysenter || exit 4
	;;
esac
case " $scopes " in *" all "*)
	scope=all; load_module
	/lib/sysenter/calls | under all_counted
	;;
esac
exit 0

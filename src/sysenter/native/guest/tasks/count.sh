# Counts guest instructions (under -icount). int80 and stock are counted three times: before
# the module is loaded; with it, which shows what it costs a program that does not use it;
# and with scope=all, where the same unmarked calls take the fast path.
count_calls counted
choose_scopes
case " $scopes " in *" marked "*)
	scope=marked; load_module
	count_calls loaded_counted
	rmmod sysenter || exit 4
	;;
esac
case " $scopes " in *" all "*)
	scope=all; load_module
	count_calls all_counted
	;;
esac
exit 0

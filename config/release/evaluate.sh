# `bin/hornbeam eval 'hornbeam:info().'`: read by relx's script, whose variables name the node.
#
# A node of its own, which nobody can call, asks the one that runs and prints what comes back.

# shellcheck disable=SC2086,SC2154
ERL_CRASH_DUMP=/dev/null exec "$BINDIR/erlexec" -boot "$REL_DIR/start_clean" -mode interactive \
    -boot_var SYSTEM_LIB_DIR "$SYSTEM_LIB_DIR" -pa "$ROOTDIR"/lib/hornbeam-*/ebin \
    -noinput +fnu +pc unicode -kernel logger_level error \
    "$NAME_TYPE" "undefined@$RELX_HOSTNAME" -setcookie "$COOKIE" -hidden -dist_listen false \
    $DIST_ARGS $EXTRA_DIST_ARGS \
    -run hornbeam_evaluate main "$NAME" "$RELX_RPC_TIMEOUT" "$*"

%% The op on metrics of apps: its argument read, and added to what there is.
-module(hornbeam_metric_ops).

-export([update/2]).

-spec update([term()], hornbeam_worker_api:context()) ->
    ok | {error, {bad_metric, iodata()} | {unreadable, term()}}.
update([Packed], #{process := Process}) ->
    case hornbeam_msgpack:decode_all(Packed) of
        {ok, Families} -> hornbeam_app_metrics:update(Families, Process);
        {error, Reason} -> {error, {unreadable, Reason}}
    end.

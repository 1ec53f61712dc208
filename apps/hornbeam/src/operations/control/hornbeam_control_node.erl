%% What a server is to those who operate it: the root's own functions (hornbeam), which nobody
%% calls but by this behaviour.
-module(hornbeam_control_node).

-export_type([outcome/0]).

-type outcome() :: ok | {error, Reason :: term()}.

-callback info() -> #{atom() => term()}.
-callback kick(hornbeam_connection_registry:id(), Code :: 1000..4999,
               Reason :: unicode:chardata()) -> outcome().
-callback reload() -> outcome().
-callback reload(Path :: hornbeam_name:name()) -> outcome().
-callback set_workers(pos_integer()) -> outcome().
-callback set_workers(Path :: hornbeam_name:name(), pos_integer()) -> outcome().
-callback stacks(Worker :: hornbeam_name:name()) -> {ok, map()} | {error, Reason :: term()}.
-callback drain() -> outcome().
-callback format_error(Reason :: term()) -> unicode:chardata().

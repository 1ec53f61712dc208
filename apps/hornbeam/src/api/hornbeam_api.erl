%% The ops that Erlang offers to apps, by their numbers in docs/wire.md.
-module(hornbeam_api).
-behaviour(hornbeam_worker_api).

-export([handle_op/3]).

-define(NOT_IMPLEMENTED, 1).

%% @private
-spec handle_op(non_neg_integer(), binary(), hornbeam_worker_api:context()) ->
    hornbeam_worker_api:answer().
handle_op(Op, _Args, _Context) ->
    Text = io_lib:format("this node has no op ~b; upgrade its hornbeam application", [Op]),
    {reply, ?NOT_IMPLEMENTED, hornbeam_msgpack:encode(iolist_to_binary(Text))}.

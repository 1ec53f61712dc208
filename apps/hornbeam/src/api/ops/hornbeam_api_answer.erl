%% What an op answers: statuses and packed values, as docs/wire.md lists them. Pure.
-module(hornbeam_api_answer).

-compile({no_auto_import, [error/2]}).

-export([ok/2, error/2, failure/1]).
-export_type([answer/0, result_type/0, kind/0]).

-type answer() :: {Status :: non_neg_integer(), Packed :: iodata()}.

-type result_type() :: nil | bool | number | uint | str | packed
                     | {optional, packed | taken | number} | packed_array | keys | items | strs
                     | standing.

-type kind() :: not_implemented | type_error | value_error | permission_denied | timeout
              | connection_ended | not_found | limit_exceeded | node_down | unavailable.

%% Bytes of a value that an answer may have; Python refuses more than 128 MiB.
-define(MAX_VALUE, 16#7ff0000).

-define(REMOTE_ERROR, 8).

%% @doc A result. What cannot travel, or is too big to, is an error instead.
-spec ok(result_type(), term()) -> answer().
ok(Type, Result) ->
    try
        fitting(pack(Type, Result))
    catch
        error:{unencodable, Path, Term} ->
            error(type_error, unencodable(Path, Term))
    end.

fitting(Packed) ->
    case iolist_size(Packed) of
        Size when Size =< ?MAX_VALUE ->
            {0, Packed};
        Size ->
            error(value_error,
                io_lib:format("the result has ~b bytes, at most ~b can travel at once",
                              [Size, ?MAX_VALUE]))
    end.

pack(nil, _) -> hornbeam_msgpack:nil();
pack(bool, Bool) -> hornbeam_msgpack:bool(Bool);
pack(number, Number) -> hornbeam_msgpack:encode(Number);
pack(uint, N) -> hornbeam_msgpack:uint(N);
pack(str, Text) -> hornbeam_msgpack:str(Text);
pack(packed, Value) -> hornbeam_msgpack:bin(hornbeam_value:to_packed(Value));
pack({optional, _Type}, absent) -> hornbeam_msgpack:nil();
pack({optional, packed}, {ok, Value}) -> pack(packed, Value);
pack({optional, number}, {ok, Number}) -> pack(number, Number);
pack({optional, taken}, {ok, Value, Left}) -> array([pack(packed, Value), left(Left)]);
pack(packed_array, Values) -> array([pack({optional, packed}, Value) || Value <- Values]);
pack(keys, Keys) -> array([hornbeam_msgpack:encode(hornbeam_api_args:key(Key)) || Key <- Keys]);
pack(items, Items) -> array([item(Key, Value) || {Key, Value} <- Items]);
pack(strs, Texts) -> array([hornbeam_msgpack:str(Text) || Text <- Texts]);
pack(standing, {Token, Lease}) -> array([hornbeam_msgpack:uint(Token), left(Lease)]).

left(infinity) -> hornbeam_msgpack:nil();
left(Left) -> hornbeam_msgpack:uint(Left).

array(Elements) ->
    [hornbeam_msgpack:array(length(Elements)) | Elements].

item(Key, Value) ->
    array([hornbeam_msgpack:encode(hornbeam_api_args:key(Key)), pack(packed, Value)]).

unencodable(Path, Term) ->
    io_lib:format("the value cannot travel to Python: value~ts: ~0tP~ts",
                  [hornbeam_json:path_text(Path), Term, 8, because(Term)]).

because(Fun) when is_function(Fun) -> ", which has more than 1 KiB with what it has taken along";
because(_Term) -> "".

%% @doc An exception with a sentence.
-spec error(kind(), Sentence :: unicode:chardata()) -> answer().
error(Kind, Sentence) ->
    {status(Kind), hornbeam_msgpack:str(text(Sentence))}.

status(not_implemented) -> 1;
status(type_error) -> 2;
status(value_error) -> 3;
status(permission_denied) -> 5;
status(timeout) -> 6;
status(connection_ended) -> 7;
status(not_found) -> 9;
status(limit_exceeded) -> 10;
status(node_down) -> 11;
status(unavailable) -> 12.

%% Whatever the parts of a sentence were: it is text.
text(Sentence) ->
    case unicode:characters_to_binary(Sentence) of
        Text when is_binary(Text) -> Text;
        {_, Text, _} -> <<Text/binary, " ...">>
    end.

%% @doc What went wrong behind an op, in the words of the module that was asked.
-spec failure(term()) -> answer().
failure(timeout) ->
    error(timeout, "no answer came in time");
failure(closed) ->
    error(connection_ended, "the connection is closed");
failure(not_forwardable) ->
    error(value_error, "forward=True needs a WebSocket that has been accepted, or a response of "
                       "the type text/event-stream");
failure(encoded) ->
    error(value_error, "forward=True cannot add to a response with a content-encoding: leave "
                       "text/event-stream out of what is compressed");
failure(not_callable) ->
    error(permission_denied, "hooks are served by workers; this process is outside of all of them, "
          "and nobody calls into it");
failure(bad_args) ->
    error(type_error, "the arguments must be a list or a tuple");
failure(worker_down) ->
    remote(<<"worker_down">>, <<"the worker that was called has ended">>, <<>>);
failure(worker_overloaded) ->
    remote(<<"overloaded">>, <<"the worker that is to be called has not read the calls before">>,
           <<>>);
failure(not_a_number) ->
    error(type_error, "the value is not a number");
failure(overflow) ->
    error(value_error, "the result is too large for a float, or for an int that can travel");
failure(refused) ->
    error(permission_denied, "the option rpc_allow of this node does not allow this function");
failure(refused_there) ->
    error(permission_denied, "the option rpc_allow of that node does not allow this function");
failure(no_node) ->
    error(node_down, "the node is not connected");
failure({node_down, Node}) ->
    error(node_down, ["the node ", atom_to_binary(Node), " is out of reach; whether it has done "
                      "what it was called for is not known"]);
failure({node_full, Node}) ->
    error(limit_exceeded, ["so much waits for the node ", atom_to_binary(Node), " that nothing "
                           "more is sent to it"]);
failure({node_failed, Node}) ->
    remote(<<"node_failed">>,
           text(["the node ", atom_to_binary(Node), " failed to do that, and its log says why; or "
                 "it is of another version"]), <<>>);
failure(no_hook) ->
    error(not_found, "no handler is registered for the hook any more");
failure(unknown_id) ->
    error(not_found, "this id is unknown: its result was taken, closed or given up");
failure({limit, Limit}) ->
    error(limit_exceeded, io_lib:format("the option ~ts of this node, which is ~b, allows no more",
                                        [Limit, hornbeam_quota:limit(Limit)]));
failure({bad_metric, Sentence}) ->
    error(value_error, ["metric ", Sentence]);
failure(unknown_candidate) ->
    error(not_found, "this candidate is unknown: it has resigned, or its node has forgotten it");
failure(too_many_candidates) ->
    error(limit_exceeded, "a worker stands for at most 1000 names at once");
failure({unavailable, _} = Reason) ->
    error(unavailable, hornbeam_consensus:sentence(Reason));
failure(uncertain) ->
    error(timeout, hornbeam_consensus:sentence(uncertain));
failure(full) ->
    error(limit_exceeded, "the consistent state has 64 MiB at most");
failure(too_large) ->
    error(limit_exceeded, "a value of the consistent state has 1 MiB at most");
failure(too_many) ->
    error(value_error,
          "more was found than can travel at once; ask for a longer prefix or fewer keys");
failure(too_long) ->
    error(limit_exceeded, "the values are too long to be compared in another order of their dicts");
failure(not_a_list) ->
    error(type_error, "the Erlang handler of a stream must return a list");
failure({unknown, Sentence}) ->
    error(not_found, Sentence);
failure({arity, Given, Takes}) ->
    error(type_error, io_lib:format("the function takes ~ts arguments, ~b were given",
                                    [lists:join(" or ", [integer_to_list(N) || N <- Takes]),
                                     Given]));
failure({unreadable, {unknown_atom, Name}}) ->
    error(value_error, ["this node has no atom ", text(Name), ", and none is made from data"]);
failure({unreadable, Reason}) ->
    error(value_error, io_lib:format("the value cannot be read by Erlang: ~0tp", [Reason]));
failure({no_json, Path, What}) ->
    error(type_error, ["a subscriber forwards JSON to its client, and message",
                       hornbeam_json:path_text(Path), ": ", What, " has no JSON form"]);
failure({no_event, What}) ->
    error(type_error, ["a subscriber forwards to an event stream, which is text: ", What,
                       " has no form in it"]);
failure(not_present) ->
    error(not_found, "this connection is not present there under this key: track it first");
failure(bad_meta) ->
    error(type_error, "the meta must be a dict");
failure({bad_meta, Path, What}) ->
    error(type_error, ["a meta is shown to clients as JSON, and meta",
                       hornbeam_json:path_text(Path), ": ", What, " has no JSON form"]);
failure({reserved, Name}) ->
    error(value_error, [Name, " stands in each meta already: give it another name"]);
failure({too_many_present, Most}) ->
    error(limit_exceeded,
          io_lib:format("who is present there is more than the option pubsub_queue_bytes, which is "
                        "~b, lets a client be told at once", [Most]));
failure({unencodable, Path, Term}) ->
    error(type_error, unencodable(Path, Term));
failure(overloaded) ->
    remote(<<"overloaded">>, <<"too many executions wait for their end">>, <<>>);
failure(crowded) ->
    remote(<<"overloaded">>, <<"too many ops of this worker wait for their replies">>, <<>>);
failure({python, Class, Message, Traceback}) ->
    remote(Class, Message, Traceback);
failure({erlang, Class, Reason, Stack}) ->
    remote(Class, Reason, Stack).

remote(Class, Reason, Stack) ->
    {?REMOTE_ERROR, array([hornbeam_msgpack:str(Text) || Text <- [Class, Reason, Stack]])}.

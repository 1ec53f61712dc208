%% @doc Who is present in a topic, on all nodes of the cluster.
%%
%% ```
%% {ok, Ref} = hornbeam_presence:track(<<"room:lobby">>, <<"ada">>, #{status => online}),
%% #{<<"ada">> := #{<<"metas">> := [#{<<"status">> := <<"online">>, <<"phx_ref">> := Ref}]}} =
%%     hornbeam_presence:list(<<"room:lobby">>).
%% '''
%%
%% A process is present until it ends; so is a connection for Python's apps. A key may be present
%% more than once, once for each process: each has its meta, a map that a client could be shown as
%% JSON, and in which atoms are text. In each meta stands `phx_ref', which is another one when the
%% meta changes, and `phx_ref_prev', the one before. These are the shapes of Phoenix's presence.
-module(hornbeam_presence).

-export([track/3, update/3, untrack/2, list/1, count/1, subscribe/1, unsubscribe/1]).
-export_type([failure/0, members/0]).

%% Those that JSON has words for.
-define(IS_JSON(Atom), (is_boolean(Atom) orelse Atom =:= null orelse Atom =:= nil
                        orelse Atom =:= undefined)).

-type topic() :: hornbeam_name:name().
-type key() :: hornbeam_name:name().
-type failure() :: not_present | {limit, hornbeam_quota:limit()}.
-type members() :: #{Key :: binary() => #{binary() => [Meta :: map()]}}.
%% `#{Key => #{<<"metas">> => [Meta]}}'.

%% @doc Let the calling process be present until it ends, or change its meta; its ref.
%%
%% Raises `bad_meta' for what is no map, `{bad_meta, Path, What}' for what has no form in JSON,
%% `{unencodable, Path, Term}' for what no value is, `{reserved, Name}' for a meta with `phx_ref' or
%% `phx_ref_prev', and `{bad_name, Name}' for a topic or key that is no text.
-spec track(topic(), key(), Meta :: map()) -> {ok, Ref :: binary()} | {error, failure()}.
track(Topic, Key, Meta) ->
    said(hornbeam_presence_server:track(trusted, self(), shown(Topic), shown(Key), packed(Meta))).

%% @doc Change the meta of the calling process; its ref. Raises what {@link track/3} does.
-spec update(topic(), key(), Meta :: map()) -> {ok, Ref :: binary()} | {error, failure()}.
update(Topic, Key, Meta) ->
    said(hornbeam_presence_server:update(trusted, self(), shown(Topic), shown(Key), packed(Meta))).

%% Both are told to all who look, as text.
shown(Name) ->
    Text = hornbeam_name:text(Name),
    case hornbeam_utf8:is_valid(Text) of
        true -> Text;
        false -> error({bad_name, Name})
    end.

%% Who calls lives.
said({error, Reason}) when Reason =/= closed -> {error, Reason};
said({ok, _} = Ok) -> Ok.

packed(Meta) ->
    Packed = iolist_to_binary(hornbeam_msgpack:encode(as_text(Meta))),
    case hornbeam_presence_message:check_meta(Packed) of
        ok -> Packed;
        {error, Reason} -> error(Reason)
    end.

%% So every node can read it, whatever atoms it has.
as_text(Atom) when is_atom(Atom), not ?IS_JSON(Atom) ->
    atom_to_binary(Atom);
as_text(Map) when is_map(Map) ->
    maps:from_list([{as_text(Key), as_text(Value)} || {Key, Value} <- maps:to_list(Map)]);
%% What is no proper list is bytes, or refused.
as_text(List) when length(List) >= 0 ->
    lists:map(fun as_text/1, List);
as_text(Term) ->
    Term.

%% @doc Let the calling process be present no more; whether it was.
-spec untrack(topic(), key()) -> boolean().
untrack(Topic, Key) ->
    hornbeam_presence_server:untrack(self(), hornbeam_name:text(Topic), hornbeam_name:text(Key)).

%% @doc Who is present in a topic. A table is read; nobody is asked.
%%
%% Raises `{unreadable, Topic, Reason}' where Python has given a meta with an atom that this node
%% does not know.
-spec list(topic()) -> members().
list(Topic) ->
    Rows = hornbeam_presence_rows:members(hornbeam_name:text(Topic)),
    Packed = iolist_to_binary(hornbeam_presence_message:members(Rows)),
    case hornbeam_msgpack:decode_all(Packed) of
        {ok, List} -> List;
        {error, Reason} -> error({unreadable, Topic, Reason})
    end.

%% @doc How many keys are present in a topic. A table is read; nobody is asked.
-spec count(topic()) -> non_neg_integer().
count(Topic) ->
    hornbeam_presence_rows:count(hornbeam_name:text(Topic)).

%% @doc Let the calling process hear of changes: it gets `{hornbeam_pubsub, Name, Message}'.
%%
%% `Message' is `#{<<"topic">> := Topic, <<"event">> := <<"presence_diff">>, <<"payload">> :=
%% #{<<"joins">> := members(), <<"leaves">> := members()}}'. Changes are gathered for some 50 ms.
%% Where the server of presence has crashed it is `<<"presence_state">>' with a {@type members()}:
%% that is how it is now. Whoever lists after that misses nothing, and may be told of what it has
%% seen already.
-spec subscribe(topic()) -> ok.
subscribe(Topic) ->
    hornbeam_pubsub:subscribe(name(Topic)).

%% @doc Let the calling process hear no more of changes.
-spec unsubscribe(topic()) -> ok.
unsubscribe(Topic) ->
    hornbeam_pubsub:unsubscribe(name(Topic)).

name(Topic) ->
    hornbeam_presence_message:topic(hornbeam_name:text(Topic)).

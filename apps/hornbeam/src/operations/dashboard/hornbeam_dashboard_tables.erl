%% What an open page asks for again and again: the sockets, topics and keys of which there is most.
%%
%% However many there are, no answer has more rows than a page shows, and a walk through the shared
%% state has a bound. Values of the state are not shown.
-module(hornbeam_dashboard_tables).

-export([init/2]).

%% Rows of an answer.
-define(MOST, 200).

%% Keys of the shared state that one answer looks at.
-define(KEYS, 20000).

%% @private
-spec init(cowboy_req:req(), State) -> {ok, cowboy_req:req(), State}.
init(Req, State) ->
    case hornbeam_dashboard_http:admit(<<"GET">>, Req) of
        {answered, Answered} -> {ok, Answered, State};
        {_, Admitted} -> {ok, answer(cowboy_req:binding(table, Req), Admitted), State}
    end.

answer(Table, Req) ->
    Query = maps:from_list(hornbeam_dashboard_http:query(Req)),
    case table(Table, Query) of
        unknown -> cowboy_req:reply(404, #{}, <<>>, Req);
        Found -> hornbeam_dashboard_http:json(200, Found, Req)
    end.

table(<<"sockets">>, Query) -> sockets(maps:get(<<"by">>, Query, <<"age">>));
table(<<"topics">>, _Query) -> topics();
table(<<"state">>, Query) -> state(maps:get(<<"prefix">>, Query, <<>>));
table(_Unknown, _Query) -> unknown.

%% Sockets.

sockets(By) ->
    Question = #{<<"by">> => By, <<"most">> => ?MOST},
    case hornbeam_control_requests:perform(<<"connections">>, Question, fun never/1, none) of
        {ok, #{connections := Connections} = Top} ->
            Top#{connections := [socket(One) || One <- Connections]};
        {error, _} ->
            unknown
    end.

never(_Item) -> ok.

%% One that is too busy to answer says nothing but that.
socket(#{path := Path, subscriptions := Topics} = One) ->
    Shown = maps:with([id, kind, mount, state, seconds, messages_in, messages_out, bytes_in,
                       bytes_out, queue, worker], One),
    Shown#{path => text(Path), topics => length(Topics), peer => peer(maps:get(peer, One))};
socket(Busy) ->
    maps:with([id, state, mailbox], Busy).

peer({Host, Port}) when is_binary(Host), is_integer(Port) ->
    text(<<Host/binary, ":", (integer_to_binary(Port))/binary>>);
peer({Host, _NoPort}) when is_binary(Host) ->
    text(Host);
peer(Other) ->
    Other.

%% A path that is no UTF-8 is shown as if it were Latin-1.
text(Bytes) ->
    case unicode:characters_to_binary(Bytes) of
        Text when is_binary(Text) -> Text;
        _ -> unicode:characters_to_binary(Bytes, latin1)
    end.

%% Topics.

topics() ->
    #{topics => hornbeam_pubsub_fanout:topics(),
      rows => [#{topic => text(Topic), subscribers => All, forwarding => Forwarding, lost => Lost}
               || {Topic, All, Forwarding, Lost} <- hornbeam_pubsub_fanout:largest(?MOST)]}.

%% Shared state.

state(true) ->
    state(<<>>);
state(Prefix) ->
    %% No key begins with what is no text.
    case unicode:characters_to_binary(Prefix) of
        Prefix -> groups(Prefix);
        _ -> unknown
    end.

groups(Prefix) ->
    {Groups, Rest} = hornbeam_state_groups:below(Prefix, ?KEYS),
    Sorted = lists:reverse(lists:sort([{Bytes, Name, Rows}
                                       || {Name, {Rows, Bytes}} <- maps:to_list(Groups)])),
    #{prefix => Prefix, is_all => Rest =:= all,
      rows => [#{name => label(Name), prefix => prefix(Name), rows => Rows, bytes => Bytes}
               || {Bytes, Name, Rows} <- lists:sublist(Sorted, ?MOST)]}.

label({_, Text}) -> Text;
label(Kind) -> atom_to_binary(Kind).

%% What can be looked into further.
prefix({prefix, Text}) -> Text;
prefix(_Name) -> undefined.

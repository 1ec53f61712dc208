%% Which session of an app a request is of, by the option `affinity': what its head says, and what
%% the app's answer says of it to those that come after. Pure but for what it has the pool told.
%%
%%   {header, Name}, {query, Name}, client    named by the client
%%   {cookie, Name}       named by a cookie of the app
%%   {set_cookie, Name}   placed by a cookie of ours, which says on which worker the session is
%%   socketio, mcp        named by the app: in a body or header of the answer that begins it
%%
%% It knows no worker but by what the pool says of it; who gets what is the pool's
%% (hornbeam_pool_affinity). Names of sessions are as good as passwords: they go no further than
%% here.
-module(hornbeam_affinity).

-include("hornbeam_request.hrl").

-export([find/3, session/1, answer/4, read_body/4]).
-export_type([affinity/0]).

-record(affinity, {
    session :: hornbeam_pool_affinity:affinity(),
    bounds :: hornbeam_pool_bindings:bounds(),
    learns = nothing :: nothing | {cookie, Name :: binary()}
                      | {set_cookie, Name :: binary(), Session :: binary() | none}
                      | mcp | {body, socketio | sse, Read :: binary()}
}).
-opaque affinity() :: #affinity{}.
%% What is known of a request's session, and where the app's answer may say more.

%% So much of an answer's body is looked at (bytes), and so long a name is taken from there.
-define(LOOK, 4096).
-define(NAMES, "[A-Za-z0-9_.~-]{1,128}").

%% What a cookie of ours is: which pool, which worker, which session.
-define(OURS, "^([0-9A-F]{8})\\.([0-9A-F]{16})\\.([0-9A-F]{24})$").

%% @doc A request with what is known of its session. `Holder' stands for the client as long as it
%% lives.
-spec find(Holder :: pid(), Request, hornbeam_mounts:mount()) -> Request
    when Request :: hornbeam_request:request().
find(_Holder, Request, #{options := #{affinity := none}}) ->
    Request;
find(Holder, #request{peer = Peer} = Request, #{options := Options, pool := Pool}) ->
    #{affinity := How, affinity_timeout := Timeout, affinity_max_sessions := Max} = Options,
    Bounds = #{max => Max, timeout => Timeout, client => client(Peer), holder => Holder},
    {Session, Learns} = session(How, Request, Bounds, Pool),
    Request#request{affinity = #affinity{session = Session, bounds = Bounds, learns = Learns}}.

%% One client of IPv6 has a whole network of addresses.
client({{A, B, C, D, _, _, _, _}, _Port}) -> {A, B, C, D};
client({Ip, _Port}) when tuple_size(Ip) =:= 4 -> Ip;
client(_Local) -> local.

session({header, Name}, Request, Bounds, _Pool) ->
    {named(hornbeam_request:field(Name, Request), any, Bounds), nothing};
session({query, Name}, #request{query = Query}, Bounds, _Pool) ->
    {named(parameter(Name, Query), any, Bounds), nothing};
session(client, _Request, #{client := Client} = Bounds, _Pool) ->
    {named(term_to_binary(Client), any, Bounds), nothing};
session({cookie, Name}, Request, Bounds, _Pool) ->
    {named(first(cookies(Name, Request)), new, Bounds), {cookie, Name}};
session({set_cookie, Name}, Request, Bounds, Pool) ->
    placed([Place || Cookie <- cookies(Name, Request), {ok, Place} <- [ours(Cookie, Pool)]], Name,
           Bounds);
session(socketio, #request{query = Query}, Bounds, _Pool) ->
    engine_io(parameter(<<"sid">>, Query), Query, Bounds);
session(mcp, #request{method = Method, query = Query} = Request, Bounds, _Pool) ->
    Ids = [hornbeam_request:field(<<"mcp-session-id">>, Request)
           | [parameter(Name, Query) || Name <- [<<"session_id">>, <<"sessionId">>]]],
    mcp(first([Id || Id <- Ids, Id =/= undefined]), Method, Bounds).

named(undefined, Otherwise, _Bounds) -> Otherwise;
named(<<>>, Otherwise, _Bounds) -> Otherwise;
named(Name, _Otherwise, Bounds) -> {named, hornbeam_pool_bindings:digest(Name), Bounds}.

placed([], Name, _Bounds) ->
    {new, {set_cookie, Name, none}};
placed([{Id, Session} | _], Name, Bounds) ->
    {{placed, Id, hornbeam_pool_bindings:digest(Session), Bounds}, {set_cookie, Name, Session}}.

%% Without an id it is the first request of a connection, or none of Engine.IO.
engine_io(undefined, Query, _Bounds) ->
    case parameter(<<"transport">>, Query) of
        undefined -> {any, nothing};
        _ -> {new, {body, socketio, <<>>}}
    end;
engine_io(Sid, _Query, Bounds) ->
    {minted(Sid, Bounds), nothing}.

mcp(undefined, Method, _Bounds) when Method =:= <<"POST">>; Method =:= <<"GET">> -> {new, mcp};
mcp(undefined, _Method, _Bounds) -> {any, nothing};
mcp(Id, _Method, Bounds) -> {minted(Id, Bounds), nothing}.

minted(Name, Bounds) -> {minted, hornbeam_pool_bindings:digest(Name), Bounds}.

first([]) -> undefined;
first([First | _]) -> First.

%% @doc What the pool is to know of a request's session.
-spec session(hornbeam_request:request()) -> hornbeam_pool_place:session().
session(#request{affinity = none}) -> none;
session(#request{affinity = #affinity{session = Session}}) -> Session.

%% What a head says.

parameter(Name, Query) ->
    case binary:match(Query, Name) of
        nomatch -> undefined;
        _ -> first([decoded(Value) || Pair <- binary:split(Query, <<"&">>, [global]),
                                      [Key, Value] <- [binary:split(Pair, <<"=">>)],
                                      Key =:= Name])
    end.

%% It is compared with what the app has said, which is not encoded.
decoded(Value) ->
    case binary:match(Value, [<<"%">>, <<"+">>]) of
        nomatch -> Value;
        _ -> unquoted(Value)
    end.

unquoted(<<"%", High, Low, Rest/binary>>) ->
    try
        <<(binary_to_integer(<<High, Low>>, 16)), (unquoted(Rest))/binary>>
    catch
        error:badarg -> <<"%", (unquoted(<<High, Low, Rest/binary>>))/binary>>
    end;
unquoted(<<"+", Rest/binary>>) -> <<" ", (unquoted(Rest))/binary>>;
unquoted(<<Char, Rest/binary>>) -> <<Char, (unquoted(Rest))/binary>>;
unquoted(<<>>) -> <<>>.

cookies(Name, Request) ->
    [Value || Line <- hornbeam_request:values(<<"cookie">>, Request),
              Pair <- binary:split(Line, <<";">>, [global]),
              [Key, Value] <- [binary:split(hornbeam_headers:trim(Pair), <<"=">>)],
              Key =:= Name, Value =/= <<>>].

ours(Cookie, Pool) ->
    Tag = tag(Pool),
    case re:run(Cookie, ?OURS, [dollar_endonly, {capture, all_but_first, binary}]) of
        {match, [Tag, Id, Session]} -> {ok, {Id, Session}};
        _ -> error
    end.

%% Apps at several paths may use one name.
tag(Pool) ->
    binary:encode_hex(<<(erlang:phash2(Pool, 1 bsl 32)):32>>).

%% What an answer says.

%% @doc The app answers: the headers that the client is to get, and what is known of the session
%% then.
-spec answer(hornbeam_headers:fields(), Worker :: pid(), Request, hornbeam_mounts:mount()) ->
    {hornbeam_headers:fields(), Request} when Request :: hornbeam_request:request().
answer(Fields, _Worker, #request{affinity = none} = Request, _Mount) ->
    {Fields, Request};
answer(Fields, Worker, #request{affinity = #affinity{learns = Learns} = Affinity} = Request,
       #{pool := Pool} = Mount) ->
    {Told, Answered} = answered(Learns, Fields, {Worker, Pool}, Affinity, {Request, Mount}),
    {Told, Request#request{affinity = Answered}}.

answered({cookie, Name}, Fields, Where, Affinity, _Request) ->
    {Fields, renamed(first(set_cookies(Name, Fields)), Where, Affinity)};
answered({set_cookie, Name, Before}, Fields, {Worker, Pool}, Affinity, Request) ->
    case to_tell(hornbeam_pool:worker_id(Worker, Pool), Affinity, Fields) of
        {ok, Id} ->
            Session = session_or_new(Before),
            Cookie = cookie(Name, [tag(Pool), ".", Id, ".", Session], Request),
            {Fields ++ [{<<"set-cookie">>, Cookie}], at(Id, Session, Affinity)};
        nothing ->
            {Fields, Affinity}
    end;
answered(mcp, Fields, Where, Affinity, _Request) ->
    {Fields, mcp_answered(field(<<"mcp-session-id">>, Fields), Fields, Where, Affinity)};
answered(_Learns, Fields, _Where, Affinity, _Request) ->
    {Fields, Affinity}.

mcp_answered(undefined, Fields, _Where, Affinity) ->
    case field(<<"content-type">>, Fields) of
        <<"text/event-stream", _/binary>> -> Affinity#affinity{learns = {body, sse, <<>>}};
        _ -> Affinity#affinity{learns = nothing}
    end;
mcp_answered(Id, _Fields, Where, Affinity) ->
    learn(Id, Where, Affinity, minted).

learn(Name, {Worker, Pool}, #affinity{bounds = Bounds} = Affinity, Kind) ->
    Key = hornbeam_pool_bindings:digest(Name),
    hornbeam_pool:learn(Key, Worker, Pool, Bounds),
    Affinity#affinity{session = {Kind, Key, Bounds}, learns = nothing}.

%% An app may give a session another name with each answer: then the one before is soon forgotten.
renamed(undefined, _Where, Affinity) ->
    Affinity;
renamed(Name, {_, Pool} = Where, #affinity{session = Before, bounds = Bounds} = Affinity) ->
    #affinity{session = After} = Renamed = learn(Name, Where, Affinity, named),
    _ = [hornbeam_pool_bindings:retire(Pool, element(2, Before), Bounds)
         || Before =/= After, is_tuple(Before)],
    Renamed.

%% Cookies that an app sets; one that it deletes names nothing.
set_cookies(Name, Fields) ->
    [Value || {<<"set-cookie">>, Line} <- Fields,
              [Pair | Attributes] <- [binary:split(Line, <<";">>, [global])],
              [Key, Value] <- [binary:split(hornbeam_headers:trim(Pair), <<"=">>)],
              Key =:= Name, Value =/= <<>>, Value =/= <<"\"\"">>, not is_deletion(Attributes)].

is_deletion(Attributes) ->
    lists:any(fun(Attribute) ->
        lists:member(hornbeam_headers:lower(hornbeam_headers:trim(Attribute)),
                     [<<"max-age=0">>, <<"expires=thu, 01 jan 1970 00:00:00 gmt">>])
    end, Attributes).

field(Name, Fields) ->
    case lists:keyfind(Name, 1, Fields) of
        {_, Value} -> Value;
        false -> undefined
    end.

%% A client that has been told so is not told again, nor is a cache that would tell others.
to_tell(error, _Affinity, _Fields) ->
    nothing;
to_tell({ok, Id}, #affinity{session = {placed, Id, _, _}}, _Fields) ->
    nothing;
to_tell({ok, Id}, _Affinity, Fields) ->
    case is_shared(field(<<"cache-control">>, Fields)) of
        true -> nothing;
        false -> {ok, Id}
    end.

is_shared(undefined) ->
    false;
is_shared(Control) ->
    lists:any(fun(Item) ->
        Item =:= <<"public">> orelse binary:match(Item, <<"s-maxage">>) =/= nomatch
    end, hornbeam_headers:items(Control)).

at(Id, Session, #affinity{bounds = Bounds} = Affinity) ->
    Affinity#affinity{session = {placed, Id, hornbeam_pool_bindings:digest(Session), Bounds}}.

cookie(Name, Value, {Request, Mount}) ->
    iolist_to_binary([Name, "=", Value, "; Path=", cookie_path(Mount), "; HttpOnly; SameSite=Lax"
                      | secure(Request)]).

session_or_new(none) -> binary:encode_hex(crypto:strong_rand_bytes(12));
session_or_new(Session) -> Session.

secure(#request{scheme = <<"https">>}) -> "; Secure";
secure(_Request) -> "".

%% Where clients see the app; a path that a cookie cannot name stands below one that it can.
cookie_path(#{options := #{root_path := <<>>}}) ->
    "/";
cookie_path(#{options := #{root_path := Path}}) ->
    case re:run(Path, "^[!-:<-~]+$", [{capture, none}]) of
        match -> Path;
        nomatch -> "/"
    end.

%% @doc The next part of the body of the app's answer.
-spec read_body(binary(), Worker :: pid(), Request, hornbeam_mounts:mount()) -> Request
    when Request :: hornbeam_request:request().
read_body(Body, Worker, #request{affinity = #affinity{learns = {body, Kind, Before}} = Affinity}
          = Request, #{pool := Pool}) ->
    Read = <<Before/binary, (binary:part(Body, 0, min(byte_size(Body), ?LOOK)))/binary>>,
    Known = case re:run(Read, pattern(Kind), [{capture, all_but_first, binary}]) of
        {match, [Name]} -> learn(Name, {Worker, Pool}, Affinity, minted);
        nomatch when byte_size(Read) >= ?LOOK -> Affinity#affinity{learns = nothing};
        nomatch -> Affinity#affinity{learns = {body, Kind, Read}}
    end,
    Request#request{affinity = Known};
read_body(_Body, _Worker, Request, _Mount) ->
    Request.

%% JSON, also in a text of JavaScript (JSONP); and the event `endpoint'.
pattern(socketio) -> "\"sid\\\\?\"\\s*:\\s*\\\\?\"(" ?NAMES ")\\\\?\"";
pattern(sse) -> "[?&]session_?[iI]d=(" ?NAMES ")".

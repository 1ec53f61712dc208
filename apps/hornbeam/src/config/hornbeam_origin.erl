%% What a browser calls an origin: scheme, host and port, or `null' (RFC 6454). Pure.
%%
%% Options and requests are read by the same rules: config knows patterns of origins, and the
%% web room compares them with what browsers send.
%%
%% Pages of the web have names of hosts and known ports. Others have what their makers chose, such
%% as chrome-extension://abcdef or file://: it is taken as it stands, and compared byte by byte.
-module(hornbeam_origin).

-export([parse/1, pattern/1, host_pattern/1, default_port/1]).
-export_type([origin/0, pattern/0, host_pattern/0]).

-type scheme() :: binary().
-type origin() :: {scheme(), Host :: binary(), inet:port_number() | undefined} | null.
-type host_pattern() :: binary() | {under, Domain :: binary()}.
-type pattern() :: {scheme(), host_pattern(), inet:port_number() | undefined} | null.
%% An origin of the web always has a port. `null' is whoever has no origin: a file, a sandbox.

-define(NAME, "(\\[[0-9A-Fa-f:.]+\\]|[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?)").

%% A page comes by no WebSocket.
-define(OTHER_SCHEME, "(?!(?:https?|wss?):)([a-z][a-z0-9+.-]*)").

%% What RFC 3986 lets stand in a host, without the comma, which would be a second origin, and the
%% star, which is a pattern's.
-define(OTHER_HOST, "(\\[[0-9a-z:.]+\\]|(?:[a-z0-9._~!$&'()+;=-]|%[0-9a-f]{2})*)").

-define(PORT, "(?::([0-9]{1,5}))?").

%% @doc The origin in a header's value; lists are none.
-spec parse(binary()) -> {ok, origin()} | error.
parse(Value) ->
    read(Value, "()", "$").

%% @doc An origin in which the host may be `*.' and a domain.
-spec pattern(binary()) -> {ok, pattern()} | error.
pattern(Text) ->
    read(Text, "(\\*\\.)?", "/?$").

read(<<"null">>, _Star, _End) ->
    {ok, null};
read(Text, Star, End) ->
    case match(Text, ["^(https?)://", Star, ?NAME ?PORT, End]) of
        {match, [Scheme | Parts]} -> of_web(lower(Scheme), Parts);
        nomatch -> read_other(match(Text, ["^" ?OTHER_SCHEME "://", Star, ?OTHER_HOST ?PORT, End]))
    end.

match(Text, Regex) ->
    re:run(Text, Regex, [caseless, dollar_endonly, {capture, all_but_first, binary}]).

of_web(Scheme, [Star, Name]) ->
    {ok, {Scheme, below(Star, lower(Name)), default_port(Scheme)}};
of_web(Scheme, [Star, Name, Port]) ->
    with_port(Scheme, below(Star, lower(Name)), binary_to_integer(Port)).

read_other({match, [_Scheme, <<"*.">>, <<>> | _]}) ->
    error;
read_other({match, [Scheme, Star, Host]}) ->
    {ok, {lower(Scheme), below(Star, Host), undefined}};
read_other({match, [Scheme, Star, Host, Port]}) ->
    with_port(lower(Scheme), below(Star, Host), binary_to_integer(Port));
read_other(nomatch) ->
    error.

with_port(Scheme, Host, Port) when Port > 0, Port =< 65535 -> {ok, {Scheme, Host, Port}};
with_port(_Scheme, _Host, _Port) -> error.

%% @doc The name of a host, or `*.' and a domain, whose own name is not meant.
-spec host_pattern(binary()) -> {ok, host_pattern()} | error.
host_pattern(Text) ->
    case re:run(Text, "^(\\*\\.)?" ?NAME "$",
                [dollar_endonly, {capture, all_but_first, binary}]) of
        {match, [Star, Name]} -> {ok, below(Star, lower(Name))};
        nomatch -> error
    end.

below(<<>>, Name) -> Name;
below(_Star, Name) -> {under, Name}.

%% @doc The port of an origin of the web that names none.
-spec default_port(scheme()) -> inet:port_number().
default_port(<<"https">>) -> 443;
default_port(<<"http">>) -> 80.

%% The regular expressions let nothing but ASCII through.
lower(Text) -> string:lowercase(Text).

%% What a browser calls an origin: scheme, host and port (RFC 6454). Pure.
%%
%% Options and requests are read by the same rules: config knows patterns of origins, and the
%% web room compares them with what browsers send.
-module(hornbeam_origin).

-export([parse/1, pattern/1, host_pattern/1, default_port/1]).
-export_type([origin/0, pattern/0, host_pattern/0]).

-type scheme() :: binary().
-type origin() :: {scheme(), Host :: binary(), inet:port_number()}.
-type host_pattern() :: binary() | {under, Domain :: binary()}.
-type pattern() :: {scheme(), host_pattern(), inet:port_number()}.

-define(NAME, "(\\[[0-9A-Fa-f:.]+\\]|[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?)").

%% @doc The origin in a header's value; `null' and lists are none.
-spec parse(binary()) -> {ok, origin()} | error.
parse(Value) ->
    read(Value, "^(https?)://()" ?NAME "(?::([0-9]{1,5}))?$").

%% @doc An origin in which the host may be `*.' and a domain.
-spec pattern(binary()) -> {ok, pattern()} | error.
pattern(Text) ->
    read(Text, "^(https?)://(\\*\\.)?" ?NAME "(?::([0-9]{1,5}))?/?$").

read(Text, Regex) ->
    case re:run(Text, Regex, [caseless, dollar_endonly, {capture, all_but_first, binary}]) of
        {match, [Scheme, Star, Name]} ->
            with_port(lower(Scheme), Star, Name, default_port(lower(Scheme)));
        {match, [Scheme, Star, Name, Port]} ->
            with_port(lower(Scheme), Star, Name, binary_to_integer(Port));
        nomatch ->
            error
    end.

with_port(Scheme, Star, Name, Port) when Port > 0, Port =< 65535 ->
    {ok, {Scheme, below(Star, lower(Name)), Port}};
with_port(_Scheme, _Star, _Name, _Port) ->
    error.

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

%% @doc The port of an origin that names none.
-spec default_port(scheme()) -> inet:port_number().
default_port(<<"https">>) -> 443;
default_port(<<"http">>) -> 80.

%% The regular expressions let nothing but ASCII through.
lower(Text) -> string:lowercase(Text).

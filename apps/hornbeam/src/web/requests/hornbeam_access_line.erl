%% One line of the access log, in the format that was asked for. Pure.
%%
%% What a client has sent is quoted: it can neither end a line nor write to the terminal of who
%% reads it.
-module(hornbeam_access_line).

-export([text/3, fields_of_interest/1]).
-export_type([entry/0, client/0, clock/0]).

-type client() :: {Address :: binary(), inet:port_number()} | undefined.
-type traffic() :: {Messages :: non_neg_integer(), Bytes :: non_neg_integer()}.
-type clock() :: {calendar:datetime(), Offset :: binary()}.
%% Local time, and how it differs from UTC: `+0200'.

-type entry() ::
    {http, client(), Line :: line(), Mount :: binary() | none, Status :: 100..599,
     IsWhole :: boolean(), Bytes :: non_neg_integer(), Microseconds :: non_neg_integer(),
     hornbeam_headers:fields()}
    | {accepted, client(), Path :: binary(), Mount :: binary(), hornbeam_headers:fields()}
    | {closed, client(), Path :: binary(), Mount :: binary(), hornbeam_headers:fields(),
       Code :: 1000..4999, Seconds :: non_neg_integer(), In :: traffic(), Out :: traffic()}.

-type line() :: {Method :: binary() | websocket, Path :: binary(), Query :: binary(),
                 hornbeam_request:version()}.

%% @doc Which headers of a request a format shows.
-spec fields_of_interest(hornbeam_option:log_format()) -> [binary()].
fields_of_interest(short) -> [];
fields_of_interest(json) -> [<<"referer">>, <<"user-agent">>, <<"x-request-id">>];
fields_of_interest(Parts) -> [Name || {field, Name} <- Parts].

%% @doc The line, with its end.
-spec text(hornbeam_option:log_format(), clock(), entry()) -> iodata().
text(short, _Clock, Entry) ->
    [host_and_port(element(2, Entry)), " - ", short(Entry), $\n];
text(json, Clock, Entry) ->
    ["{", lists:join(",", [[$", Key, "\":", Value] || {Key, Value} <- json(Clock, Entry)]), "}\n"];
text(Parts, Clock, Entry) ->
    [[part(Part, Clock, Entry) || Part <- Parts], $\n].

%% As uvicorn's.

short({http, _, {websocket, _, _, _} = Line, _, Status, _, _, _, _}) ->
    ["\"WebSocket ", target(Line), "\" ", integer_to_binary(Status)];
short({http, _, Line, _, Status, IsWhole, _, _, _}) ->
    [$", request(Line), "\" ", integer_to_binary(Status), broken_off(IsWhole)];
short({accepted, _, Path, _, _}) ->
    ["\"WebSocket ", quoted(Path), "\" [accepted]"];
short({closed, _, Path, _, _, Code, Seconds, In, Out}) ->
    ["\"WebSocket ", quoted(Path), "\" closed ", integer_to_binary(Code), " after ",
     integer_to_binary(Seconds), " s, ", traffic(In), " in, ", traffic(Out), " out"].

broken_off(true) -> [];
broken_off(false) -> " broken off".

traffic({Messages, Bytes}) ->
    [counted(Messages, " message"), " (", counted(Bytes, " byte"), ")"].

counted(1, What) -> [$1, What];
counted(Number, What) -> [integer_to_binary(Number), What, $s].

host_and_port(undefined) -> "unix";
host_and_port({Host, Port}) -> [bracketed(Host), $:, integer_to_binary(Port)].

bracketed(Host) ->
    case binary:match(Host, <<":">>) of
        nomatch -> Host;
        _ -> [$[, Host, $]]
    end.

request({Method, _, _, Version} = Line) ->
    [quoted(Method), $\s, target(Line), $\s, atom_to_binary(Version)].

target({_, Path, <<>>, _}) -> quoted(Path);
target({_, Path, Query, _}) -> [quoted(Path), $?, quoted(Query)].

%% Apache's directives. An opened WebSocket is a response with status 101, and its end has a line
%% with the code in the status's place.

part(Text, _Clock, _Entry) when is_binary(Text) -> Text;
part(client, _Clock, Entry) -> host(element(2, Entry));
part(unknown, _Clock, _Entry) -> "-";
part(time, Clock, _Entry) -> [$[, apache_time(Clock), $]];
part(request, _Clock, Entry) -> request_of(Entry);
part(method, _Clock, Entry) -> method(Entry);
part(path, _Clock, Entry) -> path(Entry);
part(query, _Clock, Entry) -> query(Entry);
part(protocol, _Clock, {http, _, {_, _, _, Version}, _, _, _, _, _, _}) -> atom_to_binary(Version);
part(protocol, _Clock, _WebSocket) -> "WebSocket";
part(status, _Clock, Entry) -> integer_to_binary(status(Entry));
part(bytes, _Clock, Entry) -> integer_to_binary(bytes(Entry));
part(bytes_or_dash, _Clock, Entry) -> or_dash(bytes(Entry));
part(microseconds, _Clock, Entry) -> integer_to_binary(microseconds(Entry));
part(seconds, _Clock, Entry) -> integer_to_binary(microseconds(Entry) div 1000000);
part(mount, _Clock, {http, _, _, none, _, _, _, _, _}) -> "-";
part(mount, _Clock, {http, _, _, Mount, _, _, _, _, _}) -> quoted(Mount);
part(mount, _Clock, WebSocket) -> quoted(element(4, WebSocket));
part({field, Name}, _Clock, {http, _, _, _, _, _, _, _, Fields}) -> field(Name, Fields);
part({field, Name}, _Clock, WebSocket) -> field(Name, element(5, WebSocket)).

host(undefined) -> "unix";
host({Host, _Port}) -> Host.

request_of({http, _, {websocket, _, _, _} = Line, _, _, _, _, _, _}) ->
    ["WebSocket ", target(Line)];
request_of({http, _, Line, _, _, _, _, _, _}) -> request(Line);
request_of(Entry) -> ["WebSocket ", path(Entry)].

method({http, _, {Method, _, _, _}, _, _, _, _, _, _}) when is_binary(Method) -> quoted(Method);
method(_WebSocket) -> "WebSocket".

path({http, _, {_, Path, _, _}, _, _, _, _, _, _}) -> quoted(Path);
path(Entry) -> quoted(element(3, Entry)).

query({http, _, {_, _, <<>>, _}, _, _, _, _, _, _}) -> "";
query({http, _, {_, _, Query, _}, _, _, _, _, _, _}) -> [$?, quoted(Query)];
query(_WebSocket) -> "".

status({http, _, _, _, Status, _, _, _, _}) -> Status;
status({accepted, _, _, _, _}) -> 101;
status({closed, _, _, _, _, Code, _, _, _}) -> Code.

bytes({http, _, _, _, _, _, Bytes, _, _}) -> Bytes;
bytes({accepted, _, _, _, _}) -> 0;
bytes({closed, _, _, _, _, _, _, _, {_, Bytes}}) -> Bytes.

or_dash(0) -> "-";
or_dash(Bytes) -> integer_to_binary(Bytes).

microseconds({http, _, _, _, _, _, _, Microseconds, _}) -> Microseconds;
microseconds({accepted, _, _, _, _}) -> 0;
microseconds({closed, _, _, _, _, _, Seconds, _, _}) -> Seconds * 1000000.

field(Name, Fields) ->
    case lists:keyfind(Name, 1, Fields) of
        {Name, Value} -> quoted(Value);
        false -> "-"
    end.

apache_time({{{Year, Month, Day}, {Hour, Minute, Second}}, Offset}) ->
    [two(Day), $/, month(Month), $/, integer_to_binary(Year), $:, two(Hour), $:, two(Minute), $:,
     two(Second), $\s, Offset].

month(Number) ->
    element(Number, {"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov",
                     "Dec"}).

two(Number) when Number < 10 -> [$0, $0 + Number];
two(Number) -> integer_to_binary(Number).

%% JSON.

json(Clock, Entry) ->
    [{"time", [$", iso_time(Clock), $"]}, {"client", json_client(element(2, Entry))}
     | json_of(Entry)].

json_client(undefined) -> "null";
json_client(Client) -> [$", host_and_port(Client), $"].

json_of({http, _, {Method, Path, Query, Version}, Mount, Status, IsWhole, Bytes, Microseconds,
         Fields}) ->
    [{"event", "\"request\""}, {"mount", json_mount(Mount)},
     {"method", string(method_name(Method))}, {"path", string(Path)},
     {"query", string(Query)}, {"protocol", [$", atom_to_binary(Version), $"]},
     {"status", integer_to_binary(Status)}, {"whole", atom_to_binary(IsWhole)},
     {"bytes", integer_to_binary(Bytes)},
     {"seconds", float_to_binary(Microseconds / 1000000, [{decimals, 6}])}
     | json_fields(Fields)];
json_of({accepted, _, Path, Mount, Fields}) ->
    [{"event", "\"websocket_accepted\""}, {"mount", string(Mount)}, {"path", string(Path)}
     | json_fields(Fields)];
json_of({closed, _, Path, Mount, Fields, Code, Seconds, In, Out}) ->
    {{MessagesIn, BytesIn}, {MessagesOut, BytesOut}} = {In, Out},
    [{"event", "\"websocket_closed\""}, {"mount", string(Mount)}, {"path", string(Path)}]
    ++ [{Key, integer_to_binary(Number)}
        || {Key, Number} <- [{"code", Code}, {"seconds", Seconds}, {"messages_in", MessagesIn},
                             {"bytes_in", BytesIn}, {"messages_out", MessagesOut},
                             {"bytes_out", BytesOut}]]
    ++ json_fields(Fields).

json_fields(Fields) ->
    [{binary:replace(Name, <<"-">>, <<"_">>, [global]), string(Value)} || {Name, Value} <- Fields].

json_mount(none) -> "null";
json_mount(Mount) -> string(Mount).

method_name(websocket) -> <<"WebSocket">>;
method_name(Method) -> Method.

iso_time({{{Year, Month, Day}, {Hour, Minute, Second}}, Offset}) ->
    [integer_to_binary(Year), $-, two(Month), $-, two(Day), $T, two(Hour), $:, two(Minute), $:,
     two(Second), Offset].

string(Bytes) ->
    [$", << <<(in_string(C))/binary>> || <<C>> <= Bytes >>, $"].

in_string(C) when C < 32; C =:= $"; C =:= $\\; C > 126 ->
    iolist_to_binary(io_lib:format("\\u~4.16.0b", [C]));
in_string(C) ->
    <<C>>.

%% As Apache escapes what stands between quotes. Most is as it is, which is found out in one look.
quoted(Bytes) ->
    case is_plain(Bytes) of
        true -> Bytes;
        false -> << <<(escaped(C))/binary>> || <<C>> <= Bytes >>
    end.

is_plain(<<C, Rest/binary>>) when C >= 32, C < 127, C =/= $", C =/= $\\ -> is_plain(Rest);
is_plain(<<>>) -> true;
is_plain(_Bytes) -> false.

escaped(C) when C < 32; C > 126; C =:= $"; C =:= $\\ ->
    iolist_to_binary(io_lib:format("\\x~2.16.0b", [C]));
escaped(C) ->
    <<C>>.

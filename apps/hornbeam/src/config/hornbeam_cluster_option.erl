%% The option `cluster': which cluster a node is of, whom it asks to join, and how it proves that.
%%
%% Pure but for whether files are there and whether this node has a name already.
-module(hornbeam_cluster_option).

-export([check/1, entries/1, expected/1, secret/0, default_port/0]).
-export_type([cluster/0, entry/0, join/0]).

-type cluster() :: #{
    name := binary(),
    join := join(),
    port := inet:port_number(),
    address := inet:ip_address() | undefined,
    cookie := hornbeam_secret:secret(binary()) | undefined,
    cookie_file := binary() | undefined,
    certfile := binary() | undefined,
    keyfile := binary() | undefined,
    cacertfile := binary() | undefined,
    data_dir := binary() | undefined,
    members := pos_integer() | undefined
}.
-type join() :: [entry()] | {module(), Function :: atom()}.
-type entry() ::
    {Host :: inet:ip_address() | string(), inet:port_number() | default} | {node, Name :: binary()}.
%% A name of DNS stands for all of its addresses.

%% Beside epmd's, which nobody needs here.
-define(PORT, 4370).

%% Short enough for a label of a metric and a line of a log.
-define(NAME, "^[A-Za-z0-9_.-]{1,64}$").

-define(NODE, "^[A-Za-z0-9_-]{1,64}@[A-Za-z0-9_.:-]{1,128}$").

%% @doc The port of a node that is told of none.
-spec default_port() -> inet:port_number().
default_port() -> ?PORT.

%% @doc Check the option; what is wrong within it is named by its key.
-spec check(term()) ->
    {ok, cluster() | undefined} | error | {error, Key :: term(), Value :: term()}.
check(undefined) ->
    {ok, undefined};
check(Value) when is_map(Value) ->
    case lists:sort(maps:keys(Value) -- maps:keys(table())) of
        [] -> check_rows(lists:sort(maps:to_list(table())), Value, #{});
        [Unknown | _] -> {error, Unknown, maps:get(Unknown, Value)}
    end;
check(_Value) ->
    error.

check_rows([], _Given, Checked) ->
    fitting(Checked);
check_rows([{Key, {Default, Check, _}} | Rest], Given, Checked) ->
    Value = maps:get(Key, Given, Default),
    case hornbeam_option:check(Check, Value) of
        {ok, Good} -> check_rows(Rest, Given, Checked#{Key => Good});
        error -> {error, Key, shown(Key, Value)}
    end.

shown(cookie, Value) when Value =/= undefined -> hidden;
shown(_Key, Value) -> Value.

fitting(#{cookie := Cookie, cookie_file := File}) when Cookie =/= undefined, File =/= undefined ->
    {error, cookie_file, File};
fitting(#{certfile := undefined, keyfile := Key}) when Key =/= undefined ->
    {error, certfile, undefined};
fitting(#{certfile := Certificate, cacertfile := Authority})
        when (Certificate =:= undefined) =/= (Authority =:= undefined) ->
    {error, missing(Certificate), undefined};
fitting(#{data_dir := Folder, members := undefined}) when Folder =/= undefined ->
    {error, members, undefined};
fitting(#{data_dir := undefined, members := Members}) when Members =/= undefined ->
    {error, data_dir, undefined};
fitting(#{certfile := undefined, cookie := undefined, cookie_file := undefined} = Checked) ->
    %% One that has a name has its own way to know others.
    case is_alive() of
        true -> {ok, Checked};
        false -> {error, cookie, undefined}
    end;
fitting(Checked) ->
    {ok, Checked}.

missing(undefined) -> certfile;
missing(_Certificate) -> cacertfile.

%% @doc What a cookie is, wherever it stands.
-spec secret() -> string().
secret() ->
    "text of 16 to 255 characters of ASCII, without blanks, that all nodes of the cluster share".

%% @doc What a key of the option expects, as the end of the sentence "expected …".
-spec expected(Key :: term()) -> string().
expected(Key) ->
    case table() of
        #{Key := {_, _, Expected}} -> Expected;
        #{} -> "one of the keys of the clustering guide; this one is unknown"
    end.

table() ->
    #{name => {undefined, fun name/1,
               "a name of 1 to 64 letters, digits, dots, dashes and underscores"},
      join => {[], fun join/1,
               "a list of hosts, each \"host\", \"host:port\" or \"[ipv6]:port\", or "
               "{Module, Function} of an exported function that returns one"},
      port => {?PORT, {range, 1, 65535}, "a number from 1 to 65535"},
      address => {undefined, fun address/1, "an IP address of this machine"},
      cookie => {undefined, fun cookie/1,
                 secret() ++ "; or cookie_file, or certfile and cacertfile"},
      cookie_file => {undefined, fun hornbeam_option:file/1,
                      "the path of a file that there is, and no cookie beside it"},
      certfile => {undefined, fun hornbeam_option:file/1,
                   "the path of a PEM file that there is; keyfile and cacertfile need it"},
      keyfile => {undefined, fun hornbeam_option:file/1, "the path of a PEM file that there is"},
      cacertfile => {undefined, fun hornbeam_option:file/1,
                     "the path of a PEM file that there is, which certfile needs: nodes prove to "
                     "each other who they are"},
      data_dir => {undefined, fun folder/1,
                   "the path of a folder, which may be a new one, for the consistent state; "
                   "members needs it"},
      members => {undefined, fun members/1,
                  "how many nodes begin the consistent state together, which data_dir needs: the "
                  "same number on all of them, 3 or 5 for most clusters"}}.

folder(undefined) ->
    {ok, undefined};
folder(Value) ->
    case hornbeam_option:text(Value) of
        {ok, <<_, _/binary>> = Path} -> {ok, filename:absname(Path)};
        _None -> error
    end.

members(undefined) -> {ok, undefined};
members(Value) -> hornbeam_option:check({range, 1, 99}, Value).

name(Value) -> matching(?NAME, Value).

matching(Pattern, Value) ->
    case hornbeam_option:text(Value) of
        {ok, Text} -> matched(re:run(Text, Pattern, [dollar_endonly, {capture, none}]), Text);
        error -> error
    end.

matched(match, Text) -> {ok, Text};
matched(nomatch, _Text) -> error.

address(undefined) ->
    {ok, undefined};
address(Value) ->
    case hornbeam_option:text(Value) of
        {ok, Text} -> as_value(inet:parse_strict_address(binary_to_list(Text)));
        error -> error
    end.

as_value({ok, Ip}) -> {ok, Ip};
as_value({error, _}) -> error.

%% An atom in the end, of 255 characters at most.
cookie(undefined) ->
    {ok, undefined};
cookie(Value) ->
    case matching("^[!-~]{16,255}$", Value) of
        {ok, Text} -> {ok, hornbeam_secret:hide(Text)};
        error -> error
    end.

join({Module, Function} = Value) when is_atom(Module), is_atom(Function) ->
    case code:ensure_loaded(Module) =:= {module, Module}
        andalso erlang:function_exported(Module, Function, 0) of
        true -> {ok, Value};
        false -> error
    end;
join(Value) ->
    entries(Value).

%% @doc Hosts and nodes to join, as a function of the user's returns them.
-spec entries(term()) -> {ok, [entry()]} | error.
entries(Node) when is_atom(Node), Node =/= [] -> entries([Node]);
entries(Value) ->
    case hornbeam_option:texts(texts(Value)) of
        {ok, Texts} -> all(lists:map(fun entry/1, Texts));
        error -> error
    end.

texts(Values) when is_list(Values) -> lists:map(fun text/1, Values);
texts(Value) -> Value.

text(Node) when is_atom(Node) -> atom_to_binary(Node);
text(Value) -> Value.

all(Entries) ->
    case lists:member(error, Entries) of
        true -> error;
        false -> {ok, Entries}
    end.

entry(Text) ->
    case re:run(Text, "^(?:\\[([0-9A-Fa-f:.]+)\\]|([A-Za-z0-9_.-]+))(?::([0-9]{1,5}))?$",
                [dollar_endonly, {capture, all_but_first, list}]) of
        {match, [Ip]} -> ip_entry(inet:parse_ipv6strict_address(Ip), default);
        {match, [Ip, "" | Port]} -> ip_entry(inet:parse_ipv6strict_address(Ip), port(Port));
        {match, ["", Host | Port]} -> host_entry(Host, port(Port));
        nomatch -> other_entry(Text, inet:parse_ipv6strict_address(binary_to_list(Text)))
    end.

ip_entry({ok, Ip}, Port) when Port =/= error -> {Ip, Port};
ip_entry(_, _) -> error.

host_entry(_Host, error) ->
    error;
host_entry(Host, Port) ->
    case inet:parse_ipv4strict_address(Host) of
        {ok, Ip} -> {Ip, Port};
        {error, _} -> {Host, Port}
    end.

port([]) ->
    default;
port([Digits]) ->
    case list_to_integer(Digits) of
        Port when Port > 0, Port =< 65535 -> Port;
        _ -> error
    end.

other_entry(_Text, {ok, Ip}) ->
    {Ip, default};
other_entry(Text, {error, _}) ->
    case matching(?NODE, Text) of
        {ok, Name} -> {node, Name};
        error -> error
    end.

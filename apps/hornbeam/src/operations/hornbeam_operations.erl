%% What those who operate a server may see of it by HTTP: where, and by which paths. Pure.
%%
%% A new page is one more row of `routes/2', and its own handler of Cowboy's.
-module(hornbeam_operations).

-export([address/1, routes/2, url/1]).
-export_type([address/0]).

-type address() :: {inet:ip_address(), inet:port_number()}.

%% @doc Where that is, by the options; none where nobody has asked for it.
-spec address(hornbeam_config:server_options()) -> address() | none.
address(#{metrics := false, dashboard := false}) ->
    none;
address(#{metrics := false}) ->
    {ok, Usual} = hornbeam_option:metrics(true),
    Usual;
address(#{metrics := Address}) ->
    Address.

%% @doc The paths that are served there; any other is a 404.
-spec routes(hornbeam_config:checked(), hornbeam_control_requests:start()) ->
    [{Path :: string(), Handler :: module(), term()}].
routes(#{server := #{metrics := Metrics, dashboard := IsDashboard}}, Start) ->
    [{"/metrics", hornbeam_metrics_handler, none} || Metrics =/= false]
    ++ lists:append([hornbeam_dashboard:routes(Start) || IsDashboard]).

%% @doc An address as a link, without a path.
-spec url(address()) -> unicode:chardata().
url({Ip, Port}) when tuple_size(Ip) =:= 8 ->
    ["http://[", inet:ntoa(Ip), "]:", integer_to_list(Port)];
url({Ip, Port}) ->
    ["http://", inet:ntoa(Ip), ":", integer_to_list(Port)].

%% A folder of a test case's own, whose name is short enough for the addresses of local sockets.
-module(hornbeam_folder).

-export([make/2, remove/1]).

make(Case, Config) ->
    Dir = "/tmp/hornbeam-test-" ++ os:getpid() ++ "-" ++ integer_to_list(erlang:phash2(Case)),
    _ = file:del_dir_r(Dir),
    ok = file:make_dir(Dir),
    [{dir, Dir} | Config].

remove(Config) ->
    file:del_dir_r(proplists:get_value(dir, Config)).

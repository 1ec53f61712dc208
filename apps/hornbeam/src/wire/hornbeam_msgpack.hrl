%% What both readers of msgpack, the one that makes terms and those that only look, must agree on.

%% Extension types (docs/wire.md).
-define(ATOM, 1).
-define(TUPLE, 2).
-define(TERM, 3).
-define(INTEGER, 4).

%% Containers within containers. Python's packer stops at 511.
-define(MAX_DEPTH, 512).
%% Elements, keys and values of all containers together.
-define(MAX_ELEMENTS, 4194304).
%% Bytes of an integer: to print one takes the square of that, and this one 50 ms.
-define(MAX_INTEGER, 16384).

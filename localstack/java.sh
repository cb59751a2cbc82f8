#!/bin/sh
# Stands where LocalStack looks for Java 21, and starts DynamoDB Local with the machine's Java: on the loopback interface
# only, without the agent that lifts its number of indexes, and never outliving LocalStack.
here=$(dirname "$0")
for argument; do
    shift
    case $argument in
    -javaagent:*) continue ;;
    -jar) set -- "$@" -cp; continue ;;
    */DynamoDBLocal.jar) set -- "$@" "$argument:$(dirname "$argument")" OnLoopback; continue ;;
    esac
    set -- "$@" "$argument"
done
exec setpriv --pdeathsig KILL "$here/java.real" -XX:-UsePerfData "-Djava.io.tmpdir=${TMPDIR:-/tmp}" "$@"

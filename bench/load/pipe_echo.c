/* The floor of an operation that another process answers: it sends back what comes, by pipes, and
 * does nothing else. What is left is two system calls on either side and two processes woken. */
#include <unistd.h>

int main(void) {
    char bytes[4096];
    ssize_t size;
    while ((size = read(STDIN_FILENO, bytes, sizeof bytes)) > 0) {
        if (write(STDOUT_FILENO, bytes, (size_t)size) != size) {
            return 1;
        }
    }
    return size < 0;
}

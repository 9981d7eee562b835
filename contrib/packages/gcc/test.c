#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

static void *square(void *number) {
    *(double *)number = sqrt(*(double *)number);
    return NULL;
}

int main(void) {
    double number = 49;
    int input;
    pthread_t thread;
    if (pthread_create(&thread, NULL, square, &number) || pthread_join(thread, NULL)) return 1;
    if (scanf("%d", &input) != 1 || input != (int)number) return 2;
    puts("OK");
    return 0;
}

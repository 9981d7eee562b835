; Reads a byte and compares it with a sum.
section .data
text: db "OK", 10
section .bss
input: resb 1
section .text
global _start
_start:
    xor eax, eax
    xor edi, edi
    lea rsi, [rel input]
    mov edx, 1
    syscall
    mov ebx, 1 + 2 + 4 + '0'
    cmp bl, [rel input]
    jne wrong
    mov eax, 1
    mov edi, 1
    lea rsi, [rel text]
    mov edx, 3
    syscall
    xor edi, edi
end:
    mov eax, 60
    syscall
wrong:
    mov edi, 1
    jmp end

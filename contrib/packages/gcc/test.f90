program test
    implicit none
    integer :: input
    integer, dimension(3) :: numbers = [1, 2, 4]
    read *, input
    if (sum(numbers) /= input) stop 1
    print '(a)', 'OK'
end program test
